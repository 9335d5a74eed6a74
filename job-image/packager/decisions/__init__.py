"""What the packager decides: pure functions of the order, the archive's directory and what is in the bucket."""
