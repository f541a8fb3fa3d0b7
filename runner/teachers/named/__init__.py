"""Several teachers at once, each read by name."""
