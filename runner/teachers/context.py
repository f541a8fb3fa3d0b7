"""A teacher that reads other rows than the student, which the data gives."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Join, at_places
from runner.errors import UserError, nearest
from runner.teachers.around import AroundTeacher, LoadedAround, require_model
from runner.teachers.base import LoadedTeacher, TeacherContext, TeacherTrunk, digest

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextTeacher(AroundTeacher):
    """A live teacher over rows of its own, in which the student's targets stand too.

    A row's own demonstration, document or privileged prompt: what the teacher says of
    each target given that, the student learns without it. `PromptedTeacher` has one
    prompt for all rows.

    Attributes:
      teacher: a model, or several combined, of the student's vocabulary.
      tokens: column with the teacher's row, `[n]` ids of the whole of it; -1 at its
        end where it is shorter (`data.Columns`).
      places: column with the place of each target in that row, `[t]`: the id there is
        the target, which the ids before it are read for; -1 where there is no target.

    Source: Askell et al. 2021, context distillation (arXiv:2112.00861).

    Raises:
      ValueError: both columns are one.
    """

    tokens: str = "teacher_tokens"
    places: str = "teacher_places"

    def __post_init__(self):
        if self.tokens == self.places:
            raise ValueError(f"tokens and places are one column, {self.tokens!r}")

    def identity(self) -> str:
        columns = f"{self.tokens!r} {self.places!r}"
        return digest(f"context {columns} {self.teacher.identity()}")

    def load(self, context: TeacherContext) -> "LoadedContext":
        loaded = self.teacher.load(context)
        require_model(
            loaded,
            otherwise="records, and Aligned, are of the student's rows; wanted: a "
            "model, as OnlineTeacher (RecordTeacher records the whole)",
        )
        return LoadedContext(loaded, tokens=self.tokens, places=self.places)


class LoadedContext(LoadedAround):
    """A model over the rows of a column.

    Args:
      teacher: the model.
      tokens: the column of its rows.
      places: the column of the targets' places in them.
    """

    def __init__(self, teacher: LoadedTeacher, *, tokens: str, places: str):
        super().__init__(teacher)
        self._tokens, self._places = tokens, places
        self.columns = frozenset({tokens, places})

    def covers(self, dataset: Dataset) -> bool:
        there = {self._tokens, self._places} <= dataset.columns.keys()
        return there and super().covers(dataset)

    def describe(self) -> Mapping[str, Any]:
        columns = {"tokens": self._tokens, "places": self._places}
        return {"kind": "context", **columns, "teacher": dict(self.teacher.describe())}

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        """Return what asks that each target stands at its place.

        The inner teacher's rows are of one document, of which none asks anything.
        """
        for name in (self._tokens, self._places):
            if name not in dataset.columns:
                raise UserError(
                    f"teacher: the data has no column {name!r}"
                    f"{nearest(name, dataset.columns)} (data.Columns joins one)"
                )
        dataset.require_fixed("teacher: ContextTeacher reads rows of the data")
        check = functools.partial(
            require_targets,
            tokens=self._tokens,
            places=self._places,
            vocab_size=dataset.vocabulary.size,
        )
        return [check]

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        tokens, places = batch[self._tokens], batch[self._places]
        inside = tokens >= 0
        index = jax.lax.broadcasted_iota(jnp.int32, tokens.shape, 1)
        own = {
            "tokens": jnp.maximum(tokens, 0),
            "targets": jnp.maximum(tokens, 0),
            "mask": inside,
            "segment_ids": inside.astype(jnp.int32),
            "positions": jnp.where(inside, index, 0),
        }
        trunk = self.teacher.trunk(frozen, ema, own, capture=capture, logits=logits)
        # What it says of an id stands at the one before.
        before = jnp.clip(places - 1, 0, tokens.shape[1] - 1)
        said = at_places(trunk.tokens, before)
        return dataclasses.replace(trunk, tokens=said)


def require_targets(
    rows: Mapping[str, np.ndarray],
    numbers: np.ndarray,
    *,
    tokens: str,
    places: str,
    vocab_size: int,
) -> None:
    """Refuse rows of no tokens, and of whose targets one does not stand at its place.

    Args:
      rows: of the data.
      numbers: of the rows.
      tokens: column of the teacher's rows.
      places: column of the targets' places.
      vocab_size: ids of the vocabulary.

    Raises:
      UserError: With the row, the position and what stands there.
    """
    own, at, mask = rows[tokens], rows[places], rows["mask"]
    whole = own.dtype.kind == at.dtype.kind == "i"
    if own.ndim != 2 or at.shape != mask.shape or not whole:
        raise UserError(
            f"teacher: column {tokens!r} must hold a row of ids and {places!r} a place "
            f"for each of {mask.shape[1:]} targets, got {own.shape[1:]} and "
            f"{at.shape[1:]} a row"
        )
    ends = np.maximum.accumulate(own == -1, axis=1)
    no_token = (own >= vocab_size) | (ends ^ (own < 0))
    if no_token.any():
        row, position = (int(i) for i in np.argwhere(no_token)[0])
        raise UserError(
            f"teacher: row {numbers[row]}: {tokens!r} must hold ids below "
            f"{vocab_size}, and -1 at its end alone; place {position} holds "
            f"{own[row, position]}"
        )
    outside = (at < 1) | (at >= own.shape[1])
    there = np.take_along_axis(own, np.clip(at, 0, own.shape[1] - 1), axis=1)
    wrong = mask & (outside | (there != rows["targets"]))
    if wrong.any():
        row, position = (int(i) for i in np.argwhere(wrong)[0])
        place, target = int(at[row, position]), int(rows["targets"][row, position])
        stands = "none" if outside[row, position] else int(there[row, position])
        raise UserError(
            f"teacher: row {numbers[row]}, position {position}: its target is token "
            f"{target}, and at its place {place} of {tokens!r} stands {stands}"
        )
