"""Losses of whole sequences: preference pairs, judged completions."""
