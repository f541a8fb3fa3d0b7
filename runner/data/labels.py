"""What the outputs of a model stand for: tokens of a vocabulary, or classes."""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runner.errors import UserError


class Labels(abc.ABC):
    """Ids `0 .. size-1`: targets are these, and logits have a column for each."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """How many ids there are."""

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """32 hexadecimal digits. Equal digests: logits over the ids mean the same."""

    @property
    @abc.abstractmethod
    def token_bytes(self) -> np.ndarray:
        """`[size]` int32, bytes of text each id stands for; 0 where it is no text."""

    @property
    @abc.abstractmethod
    def summary(self) -> str:
        """For a message: `a tokenizer of 300 tokens`."""

    @property
    @abc.abstractmethod
    def student_field(self) -> str:
        """What sets the number of a student's outputs: `vocab_size=300`."""

    def describe(self) -> dict[str, Any]:
        """For the work directory."""
        return {"size": self.size, "digest": self.digest}

    def files(self) -> Mapping[str, str]:
        """Content by name of what a student keeps of them, to teach later."""
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class Classes(Labels):
    """Classes by name, in the order of their ids."""

    names: Sequence[str]

    @property
    def size(self) -> int:
        return len(self.names)

    @functools.cached_property
    def digest(self) -> str:
        hashed = hashlib.blake2b(b"retort classes 1", digest_size=16)
        for name in self.names:
            hashed.update(f" {len(name)} {name}".encode())
        return hashed.hexdigest()

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        return np.zeros(self.size, np.int32)

    @property
    def summary(self) -> str:
        shown = ", ".join([*self.names[:3], *(["..."] if self.size > 3 else [])])
        return f"{self.size} classes ({shown})"

    @property
    def student_field(self) -> str:
        return f"num_classes={self.size}"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "classes": list(self.names)}


def require_tokens(labels: Labels) -> None:
    """Refuse classes where what was said of tokens is stored.

    Raises:
      UserError: and what serves instead.
    """
    if isinstance(labels, Classes):
        raise UserError(
            "records hold what a teacher says of tokens, the data has "
            f"{labels.summary}; let the model itself teach: runner.OnlineTeacher"
        )
