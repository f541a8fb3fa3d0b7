"""Heads in place of a model's own."""

from models.heads.biased import BiasedHead

__all__ = ["BiasedHead"]
