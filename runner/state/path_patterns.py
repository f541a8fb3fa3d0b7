"""Choices of parameters by patterns of their paths, as a user writes them."""

from collections.abc import Iterable

from models.lora import path_patterns
from models.lora.path_patterns import Patterns
from runner.errors import UserError, nearest

__all__ = ["Patterns", "chosen"]


def chosen(paths: Iterable[str], patterns: Patterns) -> frozenset[str]:
    """Return what `models.lora.path_patterns.chosen` does.

    Raises:
      UserError: a pattern matches nothing.
    """
    paths = tuple(paths)
    lost = path_patterns.unmatched(paths, patterns)
    if lost is not None:
        raise UserError(f"no parameter matches '{lost}'{nearest(lost, paths)}")
    return path_patterns.chosen(paths, patterns)
