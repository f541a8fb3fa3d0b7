"""Base of losses that sum distances between single logits over the vocabulary."""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.core.tiles import Tile
from losses.core.vocab_sums import TiledOutputs
from losses.distillation.alignment import teacher_of
from losses.distillation.divergence import check_temperature
from losses.functional.logit_distances import (
    Logits,
    distance_sums,
    finite_distances,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitDistance(Loss, abstract=True):
    """`Σ_v d(s_v / T, t_v / T)`, times T² if `scale_by_temperature_squared`.

    Unlike a divergence it sees a constant added to the logits of one side. So it
    refuses records, whole ones too: they hold logits up to a constant a token. Entries
    that are -inf on either side are left out; where the widths differ, only the first
    `min(V_student, V_teacher)` ids are compared.

    A subclass defines `distance`, and `reduce` if it is no sum.

    Attributes:
      temperature: T.
      scale_by_temperature_squared: as in `Divergence`.

    Raises:
      ValueError: the temperature is not positive.
    """

    temperature: float = 1.0
    scale_by_temperature_squared: bool = False

    needs = frozenset({"logits", "teacher/logits"})

    def __post_init__(self):
        check_temperature(self.temperature)

    @abc.abstractmethod
    def distance(self, s: Logits, t: Logits) -> Logits:
        """Return d of finite logits over T, `[*b n]` each."""

    def reduce(self, total: PerToken, count: PerToken) -> PerToken:
        """Return the value of a sum over v and the number of its entries, `[*b]`."""
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
        sums = distance_sums(
            self.distance, outputs.logits, teacher.logits, self.temperature
        )
        return self._value(*sums)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        p, q = outputs.both(self.temperature)

        def sums(tile: Tile) -> Float[Array, "*b 2"]:
            parts = finite_distances(self.distance, q.scores(tile), p.scores(tile))
            return jnp.stack([jnp.sum(x, axis=-1) for x in parts], axis=-1)

        both = outputs.total(sums, shape=(2,))
        return self._value(both[..., 0], both[..., 1])

    def _value(self, total: PerToken, count: PerToken) -> PerToken:
        value = self.reduce(total, count)
        if self.scale_by_temperature_squared:
            return value * self.temperature**2
        return value
