"""Entries of a configuration, of which none is left unread."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REQUIRED = object()


class Settings:
    """`entries` of `file`; a reader takes each one it knows, `finish` refuses the rest.

    So an entry that changes the result, and that nobody here has heard of, is an error.
    """

    def __init__(self, file: Path, entries: Mapping[str, Any]):
        self.file = file
        self._entries = entries
        self._taken: set[str] = set()

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """The value of an entry; null is the same as absent.

        Raises: ValueError when it is absent and has no default.
        """
        self._taken.add(name)
        value = self._entries.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ValueError(f"{self.file}: no {name!r}")
        return default

    def demand(self, name: str, *supported: Any) -> None:
        """Refuse an entry unless it is absent, null or one of `supported`."""
        value = self.take(name, None)
        if value is not None and value not in supported:
            self.refuse(name, value, f"{name} must be {_either(supported)}")

    def refuse(self, name: str, value: Any, wanted: str) -> None:
        """Raise the ValueError for a value that this package does not do."""
        raise ValueError(f"{self.file}: {name} {value!r} is not supported: {wanted}")

    def finish(self, *harmless: str) -> None:
        """Refuse what was not taken.

        harmless: names that change no logit; one that ends in `*` is a beginning.
        """
        beginnings = tuple(name[:-1] for name in harmless if name.endswith("*"))
        known = self._taken | set(harmless)
        for name, value in self._entries.items():
            if name in known or name.startswith(beginnings):
                continue
            if value not in (None, False, {}, []):
                raise ValueError(
                    f"{self.file}: unknown entry {name!r} ({value!r}), which may "
                    "change the result; where it does not, take it out of the file"
                )


def _either(values: tuple[Any, ...]) -> str:
    return " or ".join(["absent", *(repr(value) for value in values)])
