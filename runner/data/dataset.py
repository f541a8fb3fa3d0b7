"""The dataset interface: rows by number, and the vocabulary of their targets."""

import abc
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np

from runner.data import mapped
from runner.data.labels import Labels
from runner.data.repeats import Repeats
from runner.data.rollouts import DRAWN, OWN, Rollouts
from runner.data.row_checks import check_rows
from runner.errors import UserError

_ROWS_AT_A_TIME = 1024


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Score of a simple predictor on held-out data, to compare a trained model with.

    Attributes:
      name: Of the predictor.
      nats_per_token: Mean loss per target; None where there are no probabilities.
      bits_per_byte: Per byte of UTF-8 text; None where there is no text.
      accuracy: Share of the targets predicted right; None where not measured.
    """

    name: str
    nats_per_token: float | None = None
    bits_per_byte: float | None = None
    accuracy: float | None = None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Column:
    """One number for each stored row, or for each document; or a list of them a row.

    Attributes:
      values: `[rows]`, `[rows n]` or `[documents]`.
      by: What an entry is of.
    """

    values: np.ndarray
    by: Literal["row", "document"] = "row"

    def describe(self) -> dict[str, str]:
        """Return dtype and digest, for the work directory."""
        digest = hashlib.blake2b(self.values.tobytes(), digest_size=16).hexdigest()
        return {"by": self.by, "dtype": str(self.values.dtype), "digest": digest}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(abc.ABC):
    """Rows of arrays, each with targets: ids of a `vocabulary`, tokens or classes.

    A row holds `targets` and `mask` (both `[*b]`, without the axis of rows: `[T]` of
    tokens, `[]` of an image) and `segment_ids` of the same shape, 0 at padding. A model
    says by `Model.reads` what else it needs.

    Attributes:
      vocabulary: Meaning of the target ids.
      selection: Numbers of the stored rows that are rows of this dataset; None for all.
      columns: Further arrays of the rows, by name (`data.Columns`).
      rollouts: Rows that the student writes itself (`data.OnPolicy`); None for none.
      unit: Name of the thing that has one target: "token", "image".
    """

    vocabulary: Labels
    selection: np.ndarray | None = None
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    rollouts: Rollouts | None = None

    unit: ClassVar[str]

    @property
    @abc.abstractmethod
    def num_all(self) -> int:
        """Number of stored rows, before any selection."""

    @property
    @abc.abstractmethod
    def targets_per_row(self) -> int:
        """Targets in a row, padding included."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """32 hexadecimal digits, equal when all rows and their meaning are equal."""

    def digest(self, header: str, *arrays: np.ndarray) -> str:
        """Return the hash of the stored rows and of the selection, for `fingerprint`.

        Args:
          header: The format of the rows, and the meaning of their ids.
          arrays: All that the rows are made of.
        """
        hashed = hashlib.blake2b(header.encode(), digest_size=16)
        for array in arrays:
            for window in mapped.windows(np.ascontiguousarray(array)):
                hashed.update(window)
        if self.selection is not None:
            hashed.update(b" rows " + self.selection.astype("<i8").tobytes())
        return hashed.hexdigest()

    @abc.abstractmethod
    def read_rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return rows `numbers` `[b]` of all that are stored; arrays `[b ...]`."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return sizes, fingerprint, vocabulary and origin, for the work directory."""

    @property
    def num_documents(self) -> int | None:
        """Documents that the stored rows were cut from; None where there are none."""
        return None

    def documents_at(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the document of each position of stored rows, `[b T]`; None without.

        Anything below `num_documents` stands at padding.
        """
        del numbers
        return None

    @property
    def num_users(self) -> int | None:
        """Users that the rows are of; None where there are none."""
        return None

    def check_held_out(self, held_out: "Dataset") -> None:
        """Refuse rows that cannot be held out of these.

        Raises:
          UserError: With what differs.
        """
        del held_out

    def baselines(self, held_out: "Dataset") -> list[Baseline]:
        """Return scores on `held_out` of simple predictors fitted to these rows."""
        del held_out
        return []

    def repeats(self, held_out: "Dataset") -> Repeats | None:
        """Return what `held_out` repeats of these rows; None where nothing is known."""
        del held_out
        return None

    def order(self, seed: int) -> Callable[[int], int] | None:
        """Return the row at each place of a run; None for permutations of all rows."""
        del seed
        return None

    @property
    def cautions(self) -> tuple[str, ...]:
        """Lines for the terminal: what these rows leave out."""
        return ()

    def text_bytes(self, numbers: np.ndarray) -> float:
        """Return the UTF-8 bytes of the text in the rows `numbers` `[b]`; 0 without.

        Here they are counted from the pieces of the targets. A dataset that knows its
        documents counts those: a tokenizer may normalize, strip or prefix.
        """
        token_bytes = self.vocabulary.token_bytes.astype(np.int64)
        if not token_bytes.any():
            return 0.0
        total = 0
        for some in np.array_split(numbers, -(-len(numbers) // _ROWS_AT_A_TIME) or 1):
            rows = self.rows(some)
            total += int(token_bytes[rows["targets"]][rows["mask"]].sum())
        return float(total)

    def __len__(self) -> int:
        """Number of rows."""
        return self.num_all if self.selection is None else len(self.selection)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """Return one row, without the axis of rows."""
        return {name: x[0] for name, x in self.rows(np.array([row])).items()}

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows `numbers` `[b]`, each array `[b ...]`.

        Raises:
          UserError: A mask is no bool, or an id that counts is not in the vocabulary.
        """
        stored = numbers if self.selection is None else self.selection[numbers]
        rows = self.read_rows(stored)
        check_rows(rows, numbers, vocab_size=self.vocabulary.size)
        if self.columns:
            self._join_columns(rows, stored)
        if self.rollouts is not None:  # which the student has yet to write
            rows[OWN] = np.zeros(len(numbers), bool)
            if self.rollouts.with_log_probabilities:
                rows[DRAWN] = np.zeros(rows["targets"].shape, np.float32)
        return rows

    def require_fixed(self, place: str) -> None:
        """Refuse rows that a student is to write where there is none to write them.

        Raises:
          UserError: Naming the place.
        """
        if self.rollouts is not None:
            raise UserError(
                f"{place}: OnPolicy belongs around the whole of train_data, where a "
                "student writes its rows; give the data itself here"
            )

    def _join_columns(self, rows: dict[str, np.ndarray], stored: np.ndarray) -> None:
        """Add the columns of stored rows to the rows.

        Raises:
          UserError: The rows have an array of that name.
        """
        documents = None
        for name, column in self.columns.items():
            if name in rows:
                raise UserError(
                    f"data: a column {name!r}, and the rows have an array of that name"
                )
            if column.by == "row":
                rows[name] = column.values[stored]
                continue
            if documents is None:
                documents = self.documents_at(stored)
                assert documents is not None  # `with_columns` refuses such a column
            rows[name] = column.values[documents]

    def with_columns(self, columns: Mapping[str, Column]) -> Self:
        """Return the dataset with further columns.

        Args:
          columns: Those by row in the order of these rows.

        Raises:
          UserError: There is a column of that name, or one by document of rows that
            are cut from none.
        """
        for name, column in columns.items():
            if name in self.columns:
                raise UserError(f"data: two columns {name!r}")
            if column.by == "document" and self.num_documents is None:
                raise UserError(f"column {name!r}: by='document' wants packed text")
        stored = {name: self._stored(column) for name, column in columns.items()}
        return dataclasses.replace(self, columns={**self.columns, **stored})

    def _stored(self, column: Column) -> Column:
        """Return a column of these rows as one of all stored rows."""
        if self.selection is None or column.by == "document":
            return column
        shape = (self.num_all, *column.values.shape[1:])
        values = np.zeros(shape, column.values.dtype)
        values[self.selection] = column.values
        return dataclasses.replace(column, values=values)

    def describe_all(self) -> dict[str, Any]:
        """Return the description of the rows, of their columns and rollouts."""
        description = self.describe()
        if self.columns:
            columns = {name: x.describe() for name, x in self.columns.items()}
            description = {**description, "columns": columns}
        if self.rollouts is not None:
            description = {**description, "on_policy": self.rollouts.describe()}
        return description

    def part(self, num_rows: int) -> Self:
        """Return `num_rows` of these rows, spread evenly over all of them.

        Raises:
          UserError: There are fewer.
        """
        if num_rows > len(self):
            raise UserError(f"num_rows is {num_rows}, the data has {len(self)} rows")
        selection = np.arange(num_rows, dtype=np.int64) * len(self) // num_rows
        if self.selection is not None:
            selection = self.selection[selection]
        return dataclasses.replace(self, selection=selection)
