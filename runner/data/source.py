"""Graph nodes that declare the data to train or measure on."""

import abc
import dataclasses

from runner.data.dataset import Dataset
from runner.errors import UserError
from runner.graph.job import Checked


class DataSource(Checked, abc.ABC):
    """Data, declared without reading it; `load` reads and tokenises."""

    @abc.abstractmethod
    def check(self) -> None:
        """Run the cheap checks, before any device work.

        Raises:
          UserError: A file is missing.
        """

    @abc.abstractmethod
    def load(self, *, cache: str = "") -> Dataset:
        """Return the rows.

        Args:
          cache: Directory for results that later runs reuse; "" is the usual one.

        Raises:
          UserError: The data is not valid.
        """


@dataclasses.dataclass(frozen=True)
class Part(DataSource):
    """`num_rows` rows of other data, spread evenly over all of it.

    Records a teacher on only as many rows as a student trains on.
    """

    data: DataSource
    num_rows: int

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise UserError(f"num_rows must be at least 1, got {self.num_rows}")

    def check(self) -> None:
        self.data.check()

    def load(self, *, cache: str = "") -> Dataset:
        return self.data.load(cache=cache).part(self.num_rows)


def require_length(sequence_length: int) -> None:
    """Refuse a `sequence_length` below 1.

    Raises:
      UserError: With the length.
    """
    if sequence_length < 1:
        raise UserError(f"sequence_length must be at least 1, got {sequence_length}")
