"""Configuration entries, none of which may go unread."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REQUIRED = object()


class Settings:
    """Entries of a file. A reader takes those it knows, and `finish` refuses the rest.

    So an unknown entry, which may change the result, is an error.
    """

    def __init__(self, file: Path, entries: Mapping[str, Any]):
        self.file = file
        self._entries = entries
        self._names_read: set[str] = set()

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return the value of an entry; null is the same as absent.

        Raises:
          ValueError: when it is absent and has no default.
        """
        self._names_read.add(name)
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
            self.refuse(name, value, f"{name} must be {_format_choices(supported)}")

    def refuse(self, name: str, value: Any, reason: str) -> None:
        """Raise the ValueError for a value that is not supported."""
        raise ValueError(f"{self.file}: {name} {value!r} is not supported: {reason}")

    def finish(self, *harmless: str) -> None:
        """Refuse entries that were not taken, unless empty or false.

        Args:
          *harmless: names that change no logit; one that ends in `*` is a prefix.

        Raises:
          ValueError: for the first such entry.
        """
        prefixes = tuple(name[:-1] for name in harmless if name.endswith("*"))
        allowed = self._names_read | set(harmless)
        for name, value in self._entries.items():
            if name in allowed or name.startswith(prefixes):
                continue
            if value not in (None, False, {}, []):
                raise ValueError(
                    f"{self.file}: unknown entry {name!r} ({value!r}), which may "
                    "change the result; where it does not, take it out of the file"
                )


def _format_choices(values: tuple[Any, ...]) -> str:
    return " or ".join(["absent", *(repr(value) for value in values)])
