"""What a loss sees where the vocabulary is made a tile at a time: sums over it.

Rows of logits do not exist then. A loss asks for log-normalisers, expectations under a
softmax and plain totals instead; `losses.core.vocab_sums_pass` finds them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from losses.core.loss import Loss, TokenWeight
from losses.core.outputs import Outputs, PerToken, kept


class NeedsFullLogits(Exception):
    """A loss asks for whole rows of logits, and there are none."""


class Tile(NamedTuple):
    """Some entries of the vocabulary, for every token.

    ids:     `[shards n/shards]` int32: equal runs of ids, at equal distances.
    student: logits `[*b n]`, float32.
    teacher: `[*b n]` float32, or None where the teacher is none or is stored.
    """

    ids: jax.Array
    student: jax.Array
    teacher: jax.Array | None = None

    @property
    def entries(self) -> jax.Array:
        """The ids in the order of the logits, `[n]`."""
        return self.ids.reshape(-1)

    def place(self, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Where any `ids` are among the entries, and whether they are."""
        shards, width = self.ids.shape
        first = self.ids[0, 0]
        shard = 0
        if shards > 1:
            shard = ids // (self.ids[1, 0] - first)
            first = self.ids[jnp.clip(shard, 0, shards - 1), 0]
        offset = ids - first
        inside = (offset >= 0) & (offset < width)
        return jnp.where(inside, shard * width + offset, 0), inside


Entrywise = Callable[[Tile], jax.Array]
"""`[*b n]` of a tile."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """`softmax(x / T)` over the ids below `width`, x being one side's logits."""

    side: Literal["student", "teacher"]
    temperature: float
    width: int

    def scores(self, tile: Tile) -> jax.Array:
        """`x / T`, -inf at other ids, `[*b n]`."""
        logits = tile.student if self.side == "student" else tile.teacher
        assert logits is not None
        inside = tile.entries < self.width
        for _ in range(logits.ndim - 1):
            inside = inside[None]
        return jnp.where(inside, logits / self.temperature, -jnp.inf)


class VocabSums(Protocol):
    """What answers a loss that asks for sums over the vocabulary, each `[*b ...]`."""

    def log_normalizer(self, of: Distribution) -> jax.Array:
        """`log Σ_v exp x_v`."""
        ...

    def expected(self, under: Distribution, of: Entrywise) -> jax.Array:
        """`Σ_v softmax(x)_v y_v`; every y must be finite."""
        ...

    def total(self, of: Entrywise, *, shape: tuple[int, ...] = ()) -> jax.Array:
        """`Σ_tiles of(tile)`, `[*b *shape]`."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledOutputs(Outputs):
    """`Outputs` of which no row of logits exists.

    sums:          where sums over the vocabulary come from.
    vocabulary:    the student's, V.
    teacher_width: the teacher's, where its logits too are made by tiles, else None.
    """

    logits: jax.Array = dataclasses.field(init=False, repr=False, compare=False)
    sums: VocabSums
    vocabulary: int
    teacher_width: int | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "logits":
            raise NeedsFullLogits
        raise AttributeError(name)

    @property
    def num_outputs(self) -> int:
        return self.vocabulary

    def values(self, loss: Loss) -> PerToken:
        return loss.call_tiled(self)

    def token_weights(self, weight: Callable[..., Any]) -> PerToken:
        if isinstance(weight, TokenWeight):
            return weight.call_tiled(self)
        return weight(self)

    def log_normalizer(self, temperature: float = 1.0) -> jax.Array:
        return self.normalizer_of(self.student(temperature))

    def logits_at(self, ids: jax.Array) -> jax.Array:
        def here(tile: Tile) -> jax.Array:
            place, inside = tile.place(ids)
            found = jnp.take_along_axis(tile.student, place, axis=-1)
            return jnp.where(inside, found, 0.0)

        known = ids < self.vocabulary
        found = self.total(here, shape=ids.shape[-1:])
        return jnp.where(known, found, jnp.nan)

    def target_logits(self) -> jax.Array:
        targets = self.batch["targets"][..., None]

        def here(tile: Tile) -> jax.Array:
            chosen = jnp.broadcast_to(tile.entries, tile.student.shape) == targets
            return jnp.sum(jnp.where(chosen, tile.student, 0.0), axis=-1)

        return self.total(here)

    def mean_logits(self) -> jax.Array:
        total = self.total(lambda tile: jnp.sum(tile.student, axis=-1))
        return total / self.vocabulary

    def where(self, mask: jax.Array) -> "TiledOutputs":
        return dataclasses.replace(
            self,
            intermediates=kept(dict(self.intermediates), mask),
            teacher=kept(self.teacher, mask),
            mask=mask,
        )

    def student(self, temperature: float) -> Distribution:
        """The student's whole distribution."""
        return Distribution("student", temperature, self.vocabulary)

    def both(self, temperature: float) -> tuple[Distribution, Distribution]:
        """Teacher and student over the ids that both have.

        Raises:
          NeedsRows: the teacher's logits are not made by tiles.
        """
        if self.teacher_width is None:
            raise NeedsFullLogits
        width = min(self.vocabulary, self.teacher_width)
        return (
            Distribution("teacher", temperature, width),
            Distribution("student", temperature, width),
        )

    def normalizer_of(self, distribution: Distribution) -> jax.Array:
        """`log Σ_v exp x_v`, nats, `[*b]`."""
        return self._masked(self.sums.log_normalizer(distribution))

    def expected(self, under: Distribution, of: Entrywise) -> jax.Array:
        """`Σ_v softmax(x)_v y_v`, `[*b]`; every y must be finite."""
        return self._masked(self.sums.expected(under, of))

    def total(self, of: Entrywise, *, shape: tuple[int, ...] = ()) -> jax.Array:
        """`Σ_tiles of(tile)`, `[*b *shape]`."""
        return self._masked(self.sums.total(of, shape=shape))

    def _masked(self, x: jax.Array) -> jax.Array:
        return x if self.mask is None else kept(x, self.mask)
