"""Command line to graph."""
