"""Entries of `config.json` that a `.gguf` file cannot say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import checks
from models.pretrained.entries import entry_forms

# As llama.cpp computes where its file says nothing. Its converter (read in
# llama-cpp-python 0.3.36) writes none of these for the families that are supported but
# the base, and the scores of experts if `config.json` names them, as published ones do:
# files of models that differ in the others are equal byte for byte.
_DEFAULTS = {
    "hidden_act": "silu",
    "norm_topk_prob": True,
    "sliding_window": None,
    "rope_theta": 10_000.0,
    "scoring_func": "softmax",
    "swiglu_limit": 7.0,
    "truncate": True,
}
# Whose default follows from the family or its sizes.
_OF_FAMILIES = (
    "no_rope_layer_interval",
    "query_pre_attn_scalar",
    "rope_local_base_freq",
    "sliding_window_pattern",
)


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
        known = (*_DEFAULTS, *_OF_FAMILIES)
        for name, value in settings.items():
            if name not in known:
                raise ValueError(
                    f"{file}: settings of a .gguf file are those that it cannot say, "
                    f"got {name!r}{checks.nearest(name, known)}"
                )
            if value is not None:
                entry_forms.check(name, value)

    def take(self, name: str, stored: Any = None, *, default: Any = None) -> Any:
        """Return the caller's entry, else the file's, else llama.cpp's.

        Args:
          name: of the entry.
          stored: the file's; None where it has none.
          default: llama.cpp's, where the family or its sizes decide it.
        """
        self._names_read.add(name)
        if self._settings.get(name, default) is None and name in _OF_FAMILIES:
            raise ValueError(f"{self._file}: settings {name!r} must be a number")
        if name in self._settings:
            return self._settings[name]
        if stored is None:
            stored = _DEFAULTS[name] if default is None else default
            self.assumed[name] = stored
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
