"""Heads in place of a model's own, or beside it."""

from models.heads.biased import BiasedHead
from models.heads.second import SecondHead

__all__ = ["BiasedHead", "SecondHead"]
