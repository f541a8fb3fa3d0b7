"""Implicit feedback: which users chose which items."""
