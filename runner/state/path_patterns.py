"""Choices of parameters by patterns of their paths."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from runner.errors import UserError, nearest

Patterns = str | Sequence[str]
_NOT = "!"


def chosen(paths: Iterable[str], patterns: Patterns) -> frozenset[str]:
    """Return the paths that match a pattern, and none of those that begin with `!`.

    Args:
      paths: as in `parameters.txt`, `blocks/3/mlp/up`.
      patterns: one or several, `blocks/*`, `*/mlp/*`, `!embedding`: `*` stands for
        anything, a `/` too. With exclusions alone, all else is chosen.

    Raises:
      UserError: a pattern matches nothing.
    """
    paths = tuple(paths)
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in patterns:
        if not _matching(paths, pattern.removeprefix(_NOT)):
            raise UserError(
                f"no parameter matches '{pattern}'{nearest(pattern, paths)}"
            )
    wanted = [p for p in patterns if not p.startswith(_NOT)] or ["*"]
    excluded = [p.removeprefix(_NOT) for p in patterns if p.startswith(_NOT)]
    included = frozenset().union(*(_matching(paths, p) for p in wanted))
    return included.difference(*(_matching(paths, p) for p in excluded))


def _matching(paths: Iterable[str], pattern: str) -> frozenset[str]:
    return frozenset(path for path in paths if fnmatchcase(path, pattern))
