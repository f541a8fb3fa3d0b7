"""Loss inputs for vocabulary-tiled logits: only reductions over it are available.

No row of logits exists then. A loss asks for log-normalisers, expectations under a
softmax and plain totals, which `losses.core.vocab_sums_pass` computes tile by tile.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple, NoReturn, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.outputs import NeedsFullLogits, Outputs, PerToken, zero_outside


class Tile(NamedTuple):
    """Logits of `n` entries of the vocabulary, for every token.

    Attributes:
      ids: int32, equal runs of ids at equal distances; a run has `n / shards`.
      student: float32.
      teacher: float32; None where there is no teacher or its outputs are stored.
    """

    ids: Int[Array, "shards run"]
    student: Float[Array, "*b n"]
    teacher: Float[Array, "*b n"] | None = None

    @property
    def entries(self) -> Int[Array, " n"]:
        """Ids in the order of the logits."""
        return self.ids.reshape(-1)

    def place(
        self, ids: Int[Array, "*i"]
    ) -> tuple[Int[Array, "*i"], Bool[Array, "*i"]]:
        """Return the indices of `ids` among the entries, and whether they are there."""
        shards, width = self.ids.shape
        first = self.ids[0, 0]
        shard = 0
        if shards > 1:
            shard = ids // (self.ids[1, 0] - first)
            first = self.ids[jnp.clip(shard, 0, shards - 1), 0]
        offset = ids - first
        inside = (offset >= 0) & (offset < width)
        return jnp.where(inside, shard * width + offset, 0), inside


Entrywise = Callable[[Tile], Float[Array, "*b n"]]
"""One number per token and entry of a tile."""

Tilewise = Callable[[Tile], Float[Array, "..."]]
"""Part of a total that a tile adds, `[*b ...]`."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """`softmax(x / T)` over the ids below `width`.

    Attributes:
      side: whose logits x are.
      temperature: T.
      width: ids at or above it have probability 0.
    """

    side: Literal["student", "teacher"]
    temperature: float
    width: int

    def scores(self, tile: Tile) -> Float[Array, "*b n"]:
        """Return `x / T`, -inf at ids that are not below `width`."""
        logits = tile.student if self.side == "student" else tile.teacher
        assert logits is not None
        inside = tile.entries < self.width
        for _ in range(logits.ndim - 1):
            inside = inside[None]
        return jnp.where(inside, logits / self.temperature, -jnp.inf)


class VocabSums(Protocol):
    """Source of the sums over the vocabulary that losses ask for."""

    def log_normalizer(self, of: Distribution) -> Float[Array, "*b"]:
        """Return `log Σ_v exp x_v`."""
        ...

    def expected(self, under: Distribution, of: Entrywise) -> Float[Array, "*b"]:
        """Return `Σ_v softmax(x)_v y_v`; every y must be finite."""
        ...

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Return `Σ_tiles of(tile)`, `[*b *shape]`."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledOutputs(Outputs):
    """`Outputs` without rows of logits.

    Attributes:
      sums: the source of sums over the vocabulary.
      vocabulary: the student's entries, V.
      teacher_width: the teacher's entries where its logits are tiled too, else None.
    """

    sums: VocabSums
    vocabulary: int
    teacher_width: int | None = None

    @property
    def logits(self) -> NoReturn:  # pyright: ignore[reportIncompatibleVariableOverride] - has none
        """Refuse to be read.

        Raises:
          NeedsFullLogits: always.
        """
        raise NeedsFullLogits

    @property
    def num_outputs(self) -> int:
        return self.vocabulary

    def log_normalizer(self, temperature: float = 1.0) -> PerToken:
        return self.normalizer_of(self.student(temperature))

    def logits_at(self, ids: Int[Array, "*b k"]) -> Float[Array, "*b k"]:
        def at_ids(tile: Tile) -> Float[Array, "*b k"]:
            place, inside = tile.place(ids)
            logits = jnp.take_along_axis(tile.student, place, axis=-1)
            return jnp.where(inside, logits, 0.0)

        in_vocabulary = ids < self.vocabulary
        logits = self.total(at_ids, shape=ids.shape[-1:])
        return jnp.where(in_vocabulary, logits, jnp.nan)

    def target_logits(self) -> PerToken:
        targets = self.batch["targets"][..., None]

        def at_target(tile: Tile) -> PerToken:
            is_target = jnp.broadcast_to(tile.entries, tile.student.shape) == targets
            return jnp.sum(jnp.where(is_target, tile.student, 0.0), axis=-1)

        return self.total(at_target)

    def mean_logits(self) -> PerToken:
        total = self.total(lambda tile: jnp.sum(tile.student, axis=-1))
        return total / self.vocabulary

    def where(self, mask: Bool[Array, "*b"]) -> "TiledOutputs":
        return dataclasses.replace(
            self,
            intermediates=zero_outside(dict(self.intermediates), mask),
            teacher=zero_outside(self.teacher, mask),
            mask=mask,
        )

    def student(self, temperature: float) -> Distribution:
        """Return the student's distribution over its whole vocabulary."""
        return Distribution("student", temperature, self.vocabulary)

    def both(self, temperature: float) -> tuple[Distribution, Distribution]:
        """Return the teacher's and the student's over the ids that both have.

        Raises:
          NeedsFullLogits: the teacher's logits are not tiled.
        """
        if self.teacher_width is None:
            raise NeedsFullLogits
        width = min(self.vocabulary, self.teacher_width)
        return (
            Distribution("teacher", temperature, width),
            Distribution("student", temperature, width),
        )

    def normalizer_of(self, distribution: Distribution) -> PerToken:
        """Return `log Σ_v exp x_v`, nats."""
        return self._masked(self.sums.log_normalizer(distribution))

    def expected(self, under: Distribution, of: Entrywise) -> PerToken:
        """Return `Σ_v softmax(x)_v y_v`; every y must be finite."""
        return self._masked(self.sums.expected(under, of))

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Return `Σ_tiles of(tile)`, `[*b *shape]`."""
        return self._masked(self.sums.total(of, shape=shape))

    def _masked(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return x if self.mask is None else zero_outside(x, self.mask)
