"""Hooks of a graph: what one inherits from, and what it is called with."""
