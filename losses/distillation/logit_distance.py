"""What sums, over the vocabulary, distances between single logits share."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.core.vocab_sums import Tile, TiledOutputs
from losses.distillation.alignment import teacher_of
from losses.distillation.divergence import check_temperature


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitDistance(Loss):
    """`Σ_v d(s_v / T, t_v / T)`, times T² if `scale_by_temperature_squared`.

    Unlike a divergence it sees a constant added to the logits of one side. So it
    refuses records, whole ones too: they hold logits up to a constant a token. Entries
    that are -inf on either side are left out; where the widths differ, only the first
    `min(V_student, V_teacher)` ids are compared.

    A concrete one defines `between`, and `reduced` if it is no sum.

    Raises:
      ValueError: the temperature is not positive.
    """

    temperature: float = 1.0
    scale_by_temperature_squared: bool = False

    needs = frozenset({"logits", "teacher/logits"})

    def __post_init__(self):
        check_temperature(self.temperature)

    def between(self, s: jax.Array, t: jax.Array) -> jax.Array:
        """`d`, of finite logits over T, `[*b n]` each."""
        raise NotImplementedError(f"{type(self).__name__} does not define between")

    def reduced(self, total: jax.Array, count: jax.Array) -> PerToken:
        """The value, of the sum over v and the number of entries in it, `[*b]`."""
        del count
        return total

    def check_records(self, stored: RecordSpec) -> None:
        raise ValueError(
            f"{type(self).__name__} compares logits themselves, and records (here "
            f"{stored.mode!r}) hold them up to a constant a token; it wants an online "
            f"teacher"
        )

    def __call__(self, outputs: Outputs) -> PerToken:
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise ValueError(f"{type(self).__name__} wants the teacher's whole logits")
        width = min(outputs.logits.shape[-1], teacher.logits.shape[-1])
        s = outputs.logits[..., :width] / self.temperature
        t = teacher.logits[..., :width].astype(jnp.float32) / self.temperature
        distance, possible = self._at(s, t)
        return self._value(jnp.sum(distance, axis=-1), jnp.sum(possible, axis=-1))

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        p, q = outputs.both(self.temperature)

        def sums(tile: Tile) -> jax.Array:
            found = self._at(q.scores(tile), p.scores(tile))
            return jnp.stack([jnp.sum(x, axis=-1) for x in found], axis=-1)

        both = outputs.total(sums, shape=(2,))
        return self._value(both[..., 0], both[..., 1])

    def _at(self, s: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`d` and 1 where both are finite, else 0 and 0."""
        possible = (s != -jnp.inf) & (t != -jnp.inf)
        distance = self.between(
            jnp.where(possible, s, 0.0), jnp.where(possible, t, 0.0)
        )
        return jnp.where(possible, distance, 0.0), possible.astype(jnp.float32)

    def _value(self, total: jax.Array, count: jax.Array) -> PerToken:
        value = self.reduced(total, count)
        if self.scale_by_temperature_squared:
            return value * self.temperature**2
        return value
