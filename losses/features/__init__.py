"""Losses between hidden states and attention maps."""
