"""Live models by row: every model runs, each row has the outputs of its own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import losses
from losses.core.columns import column as column_of
from models.base import Batch
from runner.data.dataset import Dataset
from runner.errors import UserError, nearest
from runner.head.vocab_partition import VocabPartition
from runner.teachers.base import LoadedTeacher, LogitTiles, TeacherTrunk

Tree = Any


class LoadedRoutedModels(LoadedTeacher):
    """Models of which each row has one; their distributions alone are offered.

    All of them run over all rows: a batch costs what an ensemble of them does.

    Args:
      column: of the data, one entry a row.
      members: by entry.
    """

    def __init__(self, column: str, members: Mapping[int, LoadedTeacher]):
        self._column = column
        self._members = {str(entry): member for entry, member in members.items()}
        self.abstract = {name: x.abstract for name, x in self._members.items()}
        self.cautions = tuple(
            line for member in self._members.values() for line in member.cautions
        )

    def read(self) -> Tree:
        return {name: member.read() for name, member in self._members.items()}

    def describe(self) -> Mapping[str, Any]:
        members = {name: dict(x.describe()) for name, x in self._members.items()}
        return {"kind": "routed models", "column": self._column, "teachers": members}

    def covers(self, dataset: Dataset) -> bool:
        return self._column in dataset.columns

    def rows_with_records(self, dataset: Dataset) -> "RowsOfTeachers":
        require_column(dataset, self._column)
        known = np.array([int(name) for name in self._members])
        return RowsOfTeachers(dataset, self._column, known)

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        trunks = {
            name: member.trunk(
                frozen[name], ema.get(name, {}), batch, capture=capture, logits=logits
            )
            for name, member in self._members.items()
        }

        def outputs(
            head_params: Tree, tokens: Tree, batch: Batch
        ) -> losses.TeacherOutputs:
            if not logits:
                return losses.TeacherOutputs()
            of_members = {}
            for name, trunk in trunks.items():
                own = trunk.outputs(head_params[name], tokens[name], batch).logits
                assert own is not None  # records are refused by `load`
                of_members[name] = own
            return losses.TeacherOutputs(logits=_of_route(of_members, tokens[_ROUTE]))

        return TeacherTrunk(
            tokens={
                _ROUTE: column_of(batch, self._column),
                **{name: trunk.tokens for name, trunk in trunks.items()},
            },
            head_params={name: trunk.head_params for name, trunk in trunks.items()},
            outputs=outputs,
            full_logits=logits,
            tiles=_tiles(trunks),
        )


_ROUTE = "route"


def _tiles(trunks: Mapping[str, TeacherTrunk]) -> LogitTiles | None:
    """Return the tiles of each row's own model, if all have them."""
    members = {name: x.tiles for name, x in trunks.items() if x.tiles is not None}
    if len(members) < len(trunks):
        return None

    def logits(
        head_params: Tree,
        tokens: Tree,
        partition: VocabPartition,
        start: Any,
        width: int,
    ) -> jax.Array:
        of_members = {
            name: member.logits(
                head_params[name], tokens[name], partition, start, width
            )
            for name, member in members.items()
        }
        return _of_route(of_members, tokens[_ROUTE])

    return LogitTiles(
        entries=min(member.entries for member in members.values()),
        width=min(member.width for member in members.values()),
        outputs=lambda *_: losses.TeacherOutputs(),
        logits=logits,
    )


def _of_route(of_members: Mapping[str, jax.Array], route: jax.Array) -> jax.Array:
    """Return `[*b v]`, at each token the logits of the member that its row names."""
    chosen, *others = of_members.items()
    logits = chosen[1]
    for name, own in others:
        logits = jnp.where((route == int(name))[..., None], own, logits)
    return logits


@dataclasses.dataclass(frozen=True)
class RowsOfTeachers:
    """Rows of the data, each of which names a teacher that there is."""

    data: Dataset
    column: str
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.data)

    def order(self, seed: int) -> Any:
        """Return the row at each place of a run, as the data does."""
        return self.data.order(seed)

    def rows(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows `numbers`.

        Raises:
          UserError: A row names no teacher.
        """
        rows = self.data.rows(numbers)
        require_known(self.column, rows[self.column], numbers, self.known)
        return rows


def require_column(dataset: Dataset, column: str) -> None:
    """Refuse data without the column.

    Raises:
      UserError: With the nearest one.
    """
    if column not in dataset.columns:
        raise UserError(
            f"teacher: the data has no column {column!r}"
            f"{nearest(column, dataset.columns)} (data.Columns joins one)"
        )


def require_known(
    column: str, entries: np.ndarray, numbers: np.ndarray, known: np.ndarray
) -> None:
    """Refuse rows that name no teacher.

    Raises:
      UserError: With the row and its entry, or there is not one entry a row.
    """
    if entries.shape != numbers.shape:
        raise UserError(f"column {column!r} must have one entry a row")
    unknown = ~np.isin(entries, known)
    if unknown.any():
        place = int(unknown.argmax())
        raise UserError(
            f"row {numbers[place]}: {column!r} is {entries[place]}, which is no "
            "teacher's"
        )
