"""One train step."""
