"""A model in files, as the rest of the runner sees it."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

from models.base import Model
from runner.data.labels import Labels
from runner.errors import UserError
from runner.weights.tensors import Tensors

Tree = Any
UNREAD = "not looked at"
"""The digest of files that a dry run leaves closed."""


class Weights(abc.ABC):
    """A model in files.

    Attributes:
      model: makes it, as the files describe it.
      digest: 32 hexadecimal digits, equal when the files are.
      context: positions of the longest text it was made for; None where unsaid.
    """

    model: Callable[..., Model]
    digest: str
    context: int | None = None

    @abc.abstractmethod
    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        """Refuse data whose ids stand for other tokens than the model's.

        Raises:
          UserError: with the first tokens that differ.
        """

    def stored_dtypes(self, params: Tree) -> Mapping[str, Any]:
        """Return the dtypes in which parameters of `model` are stored, by path.

        Those that are not named have the model's own.
        """
        del params
        return {}

    @abc.abstractmethod
    def tensors(self) -> Tensors:
        """Return the arrays by their path in the model, a tensor a layer; none is read.

        Raises:
          UserError: one is missing, or has no place in the model.
        """

    @abc.abstractmethod
    def read(self, abstract: Tree) -> Tree:
        """Return arrays of `{"params": ..., "variables": ...}`, placed as `abstract`.

        Raises:
          UserError: an array is missing, or of another shape.
        """

    def cautions(self, positions: int) -> tuple[str, ...]:
        """Return what is worth a word before it reads rows of so many positions."""
        if self.context is None or positions <= self.context:
            return ()
        return (
            f"rows of {positions} positions, more than the {self.context} it was made "
            "for: of documents that go on beyond these it may know nothing",
        )


class UnreadWeights(Weights):
    """Files that a dry run does not look at."""

    digest = UNREAD

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        del vocabulary, cache

    def tensors(self) -> Tensors:
        raise UserError(f"{self._checkpoint} was not looked at")

    def read(self, abstract: Tree) -> Tree:
        raise UserError(f"{self._checkpoint} was not looked at")
