"""Squared distance between the logits of teacher and student."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.alignment import teacher_of
from losses.base import Loss, Outputs, PerToken, Stored
from losses.divergence import check_temperature
from losses.tiles import Reduced, Tile


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMse(Loss):
    """`1/V Σ_v ((s_v - t_v) / T)²`, times T² if `scale_by_temperature_squared`.

    Unlike a divergence it sees a constant added to all logits. So it refuses records,
    whole ones too: they hold logits up to a constant a token. Entries that are -inf on
    either side are left out of the sum and of V; where the widths differ, only the
    first `min(V_student, V_teacher)` ids are compared.

    Source: Ba and Caruana 2013 (arXiv:1312.6184), there half the sum over v.

    Raises:
      ValueError: the temperature is not positive.
    """

    temperature: float = 1.0
    scale_by_temperature_squared: bool = False

    needs = frozenset({"logits", "teacher/logits"})

    def __post_init__(self):
        check_temperature(self.temperature)

    def check_records(self, stored: Stored) -> None:
        raise ValueError(
            f"LogitMse compares logits themselves, and records (here {stored.mode!r}) "
            f"hold them up to a constant a token; it wants an online teacher"
        )

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise ValueError("LogitMse wants the teacher's whole logits")
        width = min(outputs.logits.shape[-1], teacher.logits.shape[-1])
        s = outputs.logits[..., :width]
        t = teacher.logits[..., :width].astype(jnp.float32)
        square, possible = _squares(s, t)
        return self._mean(jnp.sum(square, axis=-1), jnp.sum(possible, axis=-1))

    def over_tiles(self, outputs: Reduced) -> PerToken:
        p, q = outputs.both(1.0)

        def sums(tile: Tile) -> jax.Array:
            found = _squares(q.scores(tile), p.scores(tile))
            return jnp.stack([jnp.sum(x, axis=-1) for x in found], axis=-1)

        both = outputs.total(sums, shape=(2,))
        return self._mean(both[..., 0], both[..., 1])

    def _mean(self, total: jax.Array, count: jax.Array) -> PerToken:
        value = total / jnp.maximum(count, 1.0)
        if self.scale_by_temperature_squared:
            return value
        return value / self.temperature**2


def _squares(s: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(s - t)²` and 1 where both are finite, else 0 and 0."""
    possible = (s != -jnp.inf) & (t != -jnp.inf)
    difference = jnp.where(possible, s, 0.0) - jnp.where(possible, t, 0.0)
    return jnp.square(difference), possible.astype(jnp.float32)
