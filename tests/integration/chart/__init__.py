"""What the chart does on a real API server."""
