"""Entries of `config.json` that a `.gguf` file cannot say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import checks

# As llama.cpp computes where its file says nothing. Its converter (read in
# llama-cpp-python 0.3.36) writes none of the first three for the families that are
# supported: files of models that differ in them are equal byte for byte.
_DEFAULTS = {
    "hidden_act": "silu",
    "norm_topk_prob": True,
    "sliding_window": None,
    "rope_theta": 10_000.0,
}


class Unsaid:
    """Entries that the caller sets for a file, and those that had to be assumed.

    Attributes:
      assumed: entries that neither says, as they were read.

    Raises:
      ValueError: for a setting that no such file leaves out.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]):
        self.assumed: dict[str, Any] = {}
        self._file, self._settings = file, settings
        self._names_read: set[str] = set()
        for name in settings:
            if name not in _DEFAULTS:
                raise ValueError(
                    f"{file}: settings of a .gguf file are those that it cannot say, "
                    f"got {name!r}{checks.nearest(name, _DEFAULTS)}"
                )

    def take(self, name: str, stored: Any = None) -> Any:
        """Return the caller's entry, else the file's, else llama.cpp's."""
        self._names_read.add(name)
        if name in self._settings:
            return self._settings[name]
        if stored is None:
            self.assumed[name] = stored = _DEFAULTS[name]
        return stored

    def finish(self) -> None:
        """Refuse settings that the family does not have.

        Raises:
          ValueError: for the first of them.
        """
        for name in self._settings:
            if name not in self._names_read:
                raise ValueError(
                    f"{self._file}: settings {name!r} is of other models; of this one "
                    f"it must be one of {sorted(self._names_read)}"
                )
