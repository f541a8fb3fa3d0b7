"""Rows told from all others of their batch, without an array of all pairs."""

from losses.functional.in_batch.negatives import info_nce

__all__ = ["info_nce"]
