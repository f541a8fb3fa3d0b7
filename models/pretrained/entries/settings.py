"""Configuration entries, none of which may go unread."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from models.pretrained.entries import entry_forms

_REQUIRED = object()


class Settings:
    """Entries of a file. A reader takes those it knows, and `finish` refuses the rest.

    So an unknown entry, which may change the result, is an error.
    """

    def __init__(self, file: Path, entries: Mapping[str, Any]):
        self.file = file
        self._entries = entries
        self._names_read: set[str] = set()

    def take(self, name: str, default: Any = _REQUIRED, absent: Any = None) -> Any:
        """Return the value of an entry.

        Args:
          name: of the entry.
          default: for null; none is an error.
          absent: for an entry that is not there at all; None is the same as null.

        Raises:
          ValueError: when it is null and has no default, or of another form.
        """
        self._names_read.add(name)
        value = self._entries.get(name, absent)
        if value is not None:
            try:
                entry_forms.check(name, value)
            except ValueError as error:
                raise ValueError(f"{self.file}: {error}") from None
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

    def demand_unquantized(self, name: str, methods: Collection[str]) -> None:
        """Refuse a file whose weights are quantized otherwise than by `methods`.

        Of 8 bits (`fp8`) they are read where each block has a scale.
        """
        scheme = self.take(name, None)
        if scheme is None:
            return
        scheme = scheme if isinstance(scheme, dict) else {}
        method = scheme.get("quant_method", "")
        if method and method in methods:
            return
        if method == "fp8" and _is_block(scheme.get("weight_block_size")):
            return
        raise ValueError(
            f"{self.file}: the weights are quantized ({name}{': ' * bool(method)}"
            f"{method}), in a form that is read from .gguf files alone: give the model "
            "as it was before, or a .gguf file"
        )

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
                    f"change the result; settings={{{name!r}: None}} reads the model "
                    "without it"
                )


def _format_choices(values: tuple[Any, ...]) -> str:
    return " or ".join(["absent", *(repr(value) for value in values)])


def _is_block(size: Any) -> bool:
    is_pair = isinstance(size, list) and len(size) == 2
    return is_pair and all(type(n) is int and n > 0 for n in size)
