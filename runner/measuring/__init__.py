"""Models that are there already, measured on held-out data."""
