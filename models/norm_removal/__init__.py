"""Norms of a transformer that become linear, one after another, as it trains."""

from models.norm_removal.wrapper import NormRemoval

__all__ = ["NormRemoval"]
