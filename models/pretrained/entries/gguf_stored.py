"""Entries of a `.gguf` file, as the parts of its family read them."""

import dataclasses
from typing import Any

import numpy as np

from models.pretrained.entries.settings import Settings
from models.pretrained.entries.unsaid import Unsaid


@dataclasses.dataclass(frozen=True)
class Stored:
    """Entries of a file, and all that stands beside them.

    Attributes:
      settings: entries of the file, by the rest of their names after the family's.
      unsaid: entries that the file does not have.
      rope_factors: divisors of the frequencies, where the file holds that tensor.
      long_rope: those of short texts and of long ones, where it holds these.
    """

    settings: Settings
    unsaid: Unsaid
    rope_factors: np.ndarray | None
    long_rope: tuple[np.ndarray, np.ndarray] | None = None

    def take(self, name: str, *default: Any, absent: Any = None) -> Any:
        """Return an entry of the file, as `Settings.take`."""
        return self.settings.take(name, *default, absent=absent)
