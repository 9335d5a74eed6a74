"""What the chart renders, by the real helm."""
