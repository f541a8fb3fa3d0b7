"""Teachers by row: a column of the data says which one, records or a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import losses
from runner.data.dataset import Dataset
from runner.data.joined_rows import Arrays, Join, joined
from runner.errors import UserError
from runner.records.reader import PREFIX
from runner.teachers.base import Teacher, TeacherContext, digest
from runner.teachers.offline import LoadedRecords, OfflineTeacher
from runner.teachers.recorded_members import require_one_form
from runner.teachers.routed_models import (
    LoadedRoutedModels,
    require_column,
    require_known,
)
from runner.teachers.served import ServedTeacher

_KNOWN = f"{PREFIX}known"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutedTeacher(Teacher):
    """Each row is taught by the teacher that its column names: all records, or none.

    Over records no teacher runs, however many there are. All records are of the same
    rows and of one form (mode, entries, temperatures); those of a row come from its own
    teacher alone, so a teacher may have been recorded, or imported with `--partial`, on
    its rows only. Live models all run over all rows, as in an ensemble, and teach with
    their distributions.

    Attributes:
      column: of the data (`data.Columns`), one entry a row.
      teachers: by entry, an integer or a name.

    Raises:
      ValueError: there are no teachers.
    """

    column: str
    teachers: Mapping[Any, Teacher]

    def __post_init__(self):
        if not self.teachers:
            raise ValueError("teachers must hold at least one teacher")

    def check(self) -> None:
        self._require_one_kind()
        for name, teacher in self.teachers.items():
            try:
                teacher.check()
            except UserError as error:
                raise UserError(f"teachers[{name!r}]: {error}") from None

    def identity(self) -> str:
        parts = {str(name): x.identity() for name, x in self.teachers.items()}
        return digest(f"routed {self.column} {sorted(parts.items())}")

    def load(self, context: TeacherContext) -> "LoadedRouted | LoadedRoutedModels":
        self._require_one_kind()
        loaded = {name: x.load(context) for name, x in self.teachers.items()}
        records = {n: x for n, x in loaded.items() if isinstance(x, LoadedRecords)}
        if records:
            return LoadedRouted(self.column, records)
        by_entry = {route(name): x for name, x in loaded.items()}
        return LoadedRoutedModels(self.column, by_entry)

    def check_shapes(self) -> None:
        """Nothing: each teacher checks its own."""

    def init_state(self, student: Any) -> Any:
        states = {
            str(route(n)): x.init_state(student) for n, x in self.teachers.items()
        }
        return states if jax.tree.leaves(states) else {}

    def update_state(self, ema: Any, student: Any, step: jax.Array) -> Any:
        members = {str(route(name)): x for name, x in self.teachers.items()}
        return {
            name: members[name].update_state(state, student, step)
            for name, state in ema.items()
        }

    def _require_one_kind(self) -> None:
        """Refuse records and models side by side.

        Raises:
          UserError: With the first teacher that is not what the first of all is.
        """
        stored = (OfflineTeacher, ServedTeacher)
        recorded = {n: isinstance(x, stored) for n, x in self.teachers.items()}
        first = next(iter(recorded.values()))
        for name, kind in recorded.items():
            if kind != first:
                raise UserError(
                    f"teachers[{name!r}] is {type(self.teachers[name]).__name__}, and "
                    f"others are {'records' if first else 'models'}: rows are routed "
                    "over records alone (RecordTeacher makes them), or models alone"
                )


class LoadedRouted(LoadedRecords):
    """Records of several teachers, of which each row has one."""

    def __init__(self, column: str, members: Mapping[Any, LoadedRecords]):
        super().__init__(next(iter(members.values())).records)
        self._column, self._members = column, members
        require_one_form({f"teachers[{name!r}]": x for name, x in members.items()})
        assert self.stored is not None
        partial = any(x.records.layout.partial for x in members.values())
        self.stored = dataclasses.replace(self.stored, partial=partial)
        cautions = [line for x in members.values() for line in x.cautions]
        self.cautions = tuple(dict.fromkeys(cautions))

    def describe(self) -> Mapping[str, Any]:
        members = {str(name): dict(x.describe()) for name, x in self._members.items()}
        return {"kind": "routed", "column": self._column, "teachers": members}

    def covers(self, dataset: Dataset) -> bool:
        has_column = self._column in dataset.columns
        return has_column and all(x.covers(dataset) for x in self._members.values())

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        """Return what joins to each row the record of its own teacher."""
        require_column(dataset, self._column)
        of_entry = {route(n): x.joins(dataset) for n, x in self._members.items()}

        def join(rows: Arrays, numbers: np.ndarray) -> Arrays:
            entries = rows[self._column]
            require_known(self._column, entries, numbers, np.array(list(of_entry)))
            arrays: dict[str, np.ndarray] = {}
            for entry, joins in of_entry.items():
                chosen = np.flatnonzero(entries == entry)
                if not len(chosen):
                    continue
                own_rows = {name: x[chosen] for name, x in rows.items()}
                own = joined(joins, own_rows, numbers[chosen])
                if self.stored is not None and self.stored.partial:
                    own = {_KNOWN: np.ones(own_rows["mask"].shape, bool), **own}
                for name, x in own.items():
                    shape = (len(numbers), *x.shape[1:])
                    arrays.setdefault(name, np.zeros(shape, x.dtype))[chosen] = x
            return arrays

        return [join]


def route(name: int | str) -> int:
    """Return the entry of a column that stands for a teacher's key."""
    return losses.name_id(name) if isinstance(name, str) else int(name)
