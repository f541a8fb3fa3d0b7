"""Texts that a model writes after prompts."""
