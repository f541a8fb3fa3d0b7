"""Choices of parameters by patterns of their paths."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

Patterns = str | Sequence[str]
_NOT = "!"


def chosen(paths: Iterable[str], patterns: Patterns) -> frozenset[str]:
    """Return the paths that match a pattern, and none of those that begin with `!`.

    Args:
      paths: as in `parameters.txt`, `blocks/3/mlp/up`.
      patterns: one or several, `blocks/*`, `*/mlp/*`, `!embedding`: `*` stands for
        anything, a `/` too. With exclusions alone, all else is chosen.
    """
    paths, patterns = tuple(paths), _several(patterns)
    wanted = [p for p in patterns if not p.startswith(_NOT)] or ["*"]
    excluded = [p.removeprefix(_NOT) for p in patterns if p.startswith(_NOT)]
    included = frozenset().union(*(_matching(paths, p) for p in wanted))
    return included.difference(*(_matching(paths, p) for p in excluded))


def unmatched(paths: Iterable[str], patterns: Patterns) -> str | None:
    """Return the first pattern that matches no path, if there is one."""
    paths = tuple(paths)
    lost = (p for p in _several(patterns) if not _matching(paths, p.removeprefix(_NOT)))
    return next(lost, None)


def _several(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _matching(paths: Iterable[str], pattern: str) -> frozenset[str]:
    return frozenset(path for path in paths if fnmatchcase(path, pattern))
