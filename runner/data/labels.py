"""Meaning of a model's outputs: tokens of a vocabulary, classes, or numbers."""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runner.errors import UserError


class Labels(abc.ABC):
    """Ids `0 .. size-1`: the values of targets and the columns of logits."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of ids."""

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """32 hexadecimal digits. Equal digests: logits over the ids mean the same."""

    @property
    @abc.abstractmethod
    def token_bytes(self) -> np.ndarray:
        """`[size]` int32, bytes of text of each id; 0 where it is no text."""

    @property
    @abc.abstractmethod
    def summary(self) -> str:
        """A phrase for messages: `a tokenizer of 300 tokens`."""

    @property
    @abc.abstractmethod
    def student_field(self) -> str:
        """The field that sets a student's number of outputs: `vocab_size=300`."""

    def describe(self) -> dict[str, Any]:
        """Return size and digest, for the work directory."""
        return {"size": self.size, "digest": self.digest}

    def files(self) -> Mapping[str, str]:
        """Return the files, content by name, that a student saves to teach later."""
        return {}


@dataclasses.dataclass(frozen=True, eq=False)
class Classes(Labels):
    """Classes of images.

    Attributes:
      names: In the order of the ids.
    """

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
        first = ", ".join([*self.names[:3], *(["..."] if self.size > 3 else [])])
        return f"{self.size} classes ({first})"

    @property
    def student_field(self) -> str:
        return f"num_classes={self.size}"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "classes": list(self.names)}


class Channels(Classes):
    """Channels of series: each output is a number, and none a class."""

    @functools.cached_property
    def digest(self) -> str:
        return hashlib.blake2b(
            b"retort channels 1" + super().digest.encode(), digest_size=16
        ).hexdigest()

    @property
    def summary(self) -> str:
        return super().summary.replace("classes", "channels", 1)

    @property
    def student_field(self) -> str:
        return f"channels={self.size}"


def require_tokens(labels: Labels) -> None:
    """Refuse classes and numbers: teacher records hold tokens only.

    Raises:
      UserError: With what to use instead.
    """
    if isinstance(labels, Classes):
        raise UserError(
            "records hold what a teacher says of tokens, the data has "
            f"{labels.summary}; let the model itself teach: runner.OnlineTeacher"
        )
