"""Prompts with completions: preference pairs, and completions that are judged."""
