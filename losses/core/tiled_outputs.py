"""Loss inputs for vocabulary-tiled logits: only sums over the vocabulary are there."""

import dataclasses
from typing import NoReturn

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.outputs import (
    NeedsFullLogits,
    Outputs,
    PerToken,
    pass_gradient_if,
    zero_outside,
)
from losses.core.tiles import Distribution, Entrywise, Tile, Tilewise
from losses.core.vocab_sums import VocabSums


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
        return self.sums.log_normalizer(self.student(temperature))

    def log_normalizer_outside(
        self, ids: Int[Array, "*b k"], temperature: float = 1.0
    ) -> PerToken:
        return self.sums.log_normalizer_outside(self.student(temperature), ids)

    def logits_at(self, ids: Int[Array, "*b k"]) -> Float[Array, "*b k"]:
        def at_ids(tile: Tile) -> Float[Array, "*b k"]:
            place, inside = tile.place(ids)
            logits = jnp.take_along_axis(tile.student, place, axis=-1)
            return jnp.where(inside, logits, 0.0)

        in_vocabulary = (ids >= 0) & (ids < self.vocabulary)
        logits = self.sums.total(at_ids, shape=ids.shape[-1:])
        return jnp.where(in_vocabulary, logits, jnp.nan)

    def target_logits(self) -> PerToken:
        targets = self.batch["targets"][..., None]

        def at_target(tile: Tile) -> PerToken:
            is_target = jnp.broadcast_to(tile.entries, tile.student.shape) == targets
            return jnp.sum(jnp.where(is_target, tile.student, 0.0), axis=-1)

        logits = self.sums.total(at_target)
        return jnp.where(self.targets_outside(self.vocabulary), jnp.nan, logits)

    def mean_logits(self) -> PerToken:
        total = self.sums.total(lambda tile: jnp.sum(tile.student, axis=-1))
        return total / self.vocabulary

    def where(self, mask: Bool[Array, "*b"]) -> "TiledOutputs":
        others = dict(self.intermediates), self.teacher
        intermediates, teacher = zero_outside(others, mask)
        return dataclasses.replace(
            self,
            intermediates=intermediates,
            teacher=teacher,
            sums=self.sums.where(mask),
            mask=mask,
        )

    def detached_unless(self, active: Bool[Array, ""]) -> "TiledOutputs":
        return dataclasses.replace(
            self,
            intermediates=pass_gradient_if(active, dict(self.intermediates)),
            sums=self.sums.detached_unless(active),
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
        return self.sums.log_normalizer(distribution)

    def expected(self, under: Distribution, of: Entrywise) -> PerToken:
        """Return `Σ_v softmax(x)_v y_v`; every y must be finite."""
        return self.sums.expected(under, of)

    def total(
        self, of: Tilewise, *, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Return `Σ_tiles of(tile)`, `[*b *shape]`."""
        return self.sums.total(of, shape=shape)
