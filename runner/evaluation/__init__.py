"""Held-out metrics and diagnostics."""
