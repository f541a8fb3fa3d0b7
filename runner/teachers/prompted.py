"""A teacher that reads a prompt which the student does not see."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Join
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.teachers.around import AroundTeacher, LoadedAround, require_model
from runner.teachers.base import LoadedTeacher, TeacherContext, TeacherTrunk, digest

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedTeacher(AroundTeacher):
    """A live teacher that reads `prompt` before each document of a row.

    What it says of a token given the prompt too is what the student learns without it:
    instructions, a document, demonstrations. The prompt stands after the token that
    begins a document, where there is one, else before its first token; it is of the
    teacher's rows alone, which are longer by it.

    Attributes:
      teacher: a model, or several combined.
      prompt: its text; names of special tokens in it are those tokens.
      segments: documents of a row, at most: so many times the prompt has room.

    Source: Askell et al. 2021, context distillation (arXiv:2112.00861);
    Snell et al. 2022 (arXiv:2209.15189).

    Raises:
      ValueError: the prompt is empty, or `segments` is below 1.
    """

    prompt: str
    segments: int = 1

    def __post_init__(self):
        if not self.prompt:
            raise ValueError(
                "prompt must not be empty; without one: the teacher itself"
            )
        if self.segments < 1:
            raise ValueError(f"segments must be at least 1, got {self.segments}")

    def identity(self) -> str:
        return digest(f"prompted {self.prompt!r} {self.teacher.identity()}")

    def load(self, context: TeacherContext) -> "LoadedPrompted":
        vocabulary = context.vocabulary
        if not isinstance(vocabulary, Vocabulary):
            raise UserError("teacher: a PromptedTeacher reads text, the data is images")
        loaded = self.teacher.load(context)
        require_model(
            loaded,
            otherwise="records, and Aligned, say nothing of the prompt; wanted: a "
            "model, as OnlineTeacher",
        )
        (ids,) = vocabulary.encode_all([self.prompt], special_as_text=False)
        return LoadedPrompted(
            loaded,
            np.asarray(ids, np.int32),
            begin=vocabulary.begin,
            segments=self.segments,
        )


class LoadedPrompted(LoadedAround):
    """A model over rows with the prompt in them.

    Args:
      teacher: the model.
      prompt: its ids.
      begin: id that begins a document.
      segments: documents of a row, at most.
    """

    def __init__(
        self, teacher: LoadedTeacher, prompt: np.ndarray, *, begin: int, segments: int
    ):
        super().__init__(teacher)
        self._prompt, self._begin, self._segments = prompt, begin, segments

    def describe(self) -> Mapping[str, Any]:
        return {
            "kind": "prompted",
            "prompt": self._prompt.tolist(),
            "teacher": dict(self.teacher.describe()),
        }

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        room = functools.partial(require_room, self._segments)
        return [room, *super().joins(dataset)]

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        prompted, places = prompted_rows(
            batch, self._prompt, begin=self._begin, segments=self._segments
        )
        trunk = self.teacher.trunk(
            frozen, ema, prompted, capture=capture, logits=logits
        )

        # Documents without room for a prompt, where no row was checked: no numbers.
        beyond = batch["segment_ids"] > self._segments

        def at_places(x: jax.Array) -> jax.Array:
            as_x = places.shape + (1,) * (x.ndim - 2)
            x = jnp.take_along_axis(x, places.reshape(as_x), axis=1)
            if not jnp.issubdtype(x.dtype, jnp.inexact):
                return x
            return jnp.where(beyond.reshape(as_x), jnp.asarray(jnp.nan, x.dtype), x)

        # What it says of each token of the student's row, as if it had read that.
        tokens = jax.tree.map(at_places, trunk.tokens)
        return dataclasses.replace(trunk, tokens=tokens)


def prompted_rows(
    batch: Batch, prompt: np.ndarray, *, begin: int, segments: int
) -> tuple[dict[str, jax.Array], Int[Array, "b t"]]:
    """Return rows with a prompt in each document, and where their outputs are.

    Args:
      batch: tokens and segment_ids `[b t]`, which count from 1, 0 at padding.
      prompt: ids `[p]`.
      begin: id after which the prompt stands, where a document begins with it.
      segments: documents of a row, at most.

    Returns:
      tokens, targets, mask, segment_ids and positions `[b t + segments p]`, and the
      place in them of the output for each target of `batch`.
    """
    tokens, ids = batch["tokens"], batch["segment_ids"]
    (rows, length), size = tokens.shape, len(prompt)
    row = jnp.arange(rows)[:, None]
    padding = length + segments * size  # beyond the rows: it is dropped

    # Tokens move by a prompt for each document up to theirs; one that begins a document
    # stays before its own prompt.
    places = jnp.arange(length)[None] + size * ids
    first = ids != jnp.pad(ids, ((0, 0), (1, 0)))[:, :-1]
    begins = first & (tokens == begin)
    to = jnp.where(ids > 0, places - size * begins.astype(jnp.int32), padding)
    shape = (rows, padding)
    longer = jnp.zeros(shape, tokens.dtype).at[row, to].set(tokens, mode="drop")
    segment_ids = jnp.zeros(shape, ids.dtype).at[row, to].set(ids, mode="drop")

    # The prompt, from the first token of each document on.
    start = jnp.where(first & (ids > 0), places - size, padding)
    start = start + begins.astype(jnp.int32)
    for at, token in enumerate(prompt.tolist()):
        longer = longer.at[row, start + at].set(token, mode="drop")
        segment_ids = segment_ids.at[row, start + at].set(ids, mode="drop")

    changes = segment_ids != jnp.pad(segment_ids, ((0, 0), (1, 0)))[:, :-1]
    index = jnp.broadcast_to(jnp.arange(padding)[None], shape)
    since = jax.lax.cummax(jnp.where(changes, index, 0), axis=1)
    prompted = {
        "tokens": longer,
        "targets": longer,
        "mask": segment_ids > 0,
        "segment_ids": segment_ids,
        "positions": index - since,
    }
    return prompted, jnp.minimum(jnp.where(ids > 0, places, 0), padding - 1)


def require_room(
    segments: int, rows: Mapping[str, np.ndarray], numbers: np.ndarray
) -> None:
    """Refuse rows of more documents than there is room for prompts.

    Raises:
      UserError: With the row, and the room that it takes.
    """
    most = rows["segment_ids"].max(axis=1, initial=0)
    if (most > segments).any():
        place = int((most > segments).argmax())
        raise UserError(
            f"teacher: row {numbers[place]} has {most[place]} documents, and its "
            f"prompt has room for {segments}: segments={most.max()} or more"
        )
