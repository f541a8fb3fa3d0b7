"""The interface of a plan: a student, and the form in which it is written."""

import abc
import dataclasses
from pathlib import Path
from typing import Self

from models.pretrained import writing
from runner.export.student import Student

QUANTIZED = "quantized"
"""In the place of a dtype: kernels as the grids of a `models.Quantized` have them."""


@dataclasses.dataclass(frozen=True)
class Plan(abc.ABC):
    """A model to write, in a form that says all that it must.

    Attributes:
      student: to write.
      choice: the family, or architecture, that says what it does.
      dtype: of the weights.
      name: of the model.
    """

    student: Student
    choice: writing.Choice
    dtype: str
    name: str

    @classmethod
    @abc.abstractmethod
    def of(cls, student: Student, *, dtype: str, name: str) -> Self:
        """Plan it.

        Args:
          student: to write.
          dtype: of the weights; "" is that of the parameters, or of the adapters.
          name: of the model.

        Raises:
          ValueError: the form has no words for what the model does.
          UserError: nor for what the tokenizer does.
        """

    @property
    def family(self) -> str:
        """The family of what is written, for messages."""
        return self.choice.family

    @abc.abstractmethod
    def write(self, folder: Path) -> None:
        """Fill an empty folder.

        Raises:
          UserError: a value is not finite in `dtype`.
          OSError: a file cannot be written.
        """

    @abc.abstractmethod
    def how_to(self, to: Path) -> str:
        """Return a line on how to load it."""
