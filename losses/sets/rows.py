"""Relations between the rows of a batch, kept as the teacher has them."""

import abc
import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.of_rows import Feature, OfRows, Rows, There
from losses.core.outputs import Outputs
from losses.features.layer_pairs import OverLayers
from losses.functional import rows as functional


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowRelations(OfRows, OverLayers, abstract=True):
    """Base of the mean over layers of `D(X_i, Y_f(i))`, of rows of the global batch.

    X and Y `[B d]` are the intermediates of student and teacher, a mean over the
    counted tokens of each row (an image, a text); their widths need not be the same. In
    the sources the batch is that of one device.

    Attributes:
      layers: as in `OverLayers`.
      of: the intermediate to compare, `[*b d]`: `"hidden"`, or another by layer.
    """

    of: str = "hidden"

    @property
    def path(self) -> str:
        return self.of

    @abc.abstractmethod
    def distance(self, student: Rows, teacher: Rows, there: There) -> Float[Array, ""]:
        """Return D of the rows that are there."""

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        every = jnp.ones(outputs.batch["targets"].shape, jnp.float32)
        return {path: Feature(outputs.intermediate(path), every) for path in self.needs}

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        distances = [
            self.distance(rows[ours], rows[theirs], there)
            for ours, theirs in self.paths
        ]
        return jnp.mean(jnp.stack(distances))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityPreserving(RowRelations):
    """`1/B² |G_s - G_t|²`, G being `X Xᵀ` with rows of norm 1.

    Source: Tung and Mori 2019 (arXiv:1907.09682), eq. 1 to 4, weight 3000 there.
    """

    def distance(self, student: Rows, teacher: Rows, there: There) -> Float[Array, ""]:
        return functional.similarity_preserving(student, teacher, there)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationalDistance(RowRelations):
    """The mean Huber loss of `d_ij / mean d` over pairs of rows, d between X_i and X_j.

    Source: Park et al. 2019, RKD (arXiv:1904.05068), eq. 4 to 8: its distances, weight
    25 there, beside `RelationalAngle`.
    """

    def distance(self, student: Rows, teacher: Rows, there: There) -> Float[Array, ""]:
        return functional.relational_distance(student, teacher, there)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationalAngle(RowRelations):
    """The mean Huber loss of `cos ∠ X_i X_j X_k` over triplets of rows.

    Takes B³ products of rows, B² numbers at a time.

    Source: Park et al. 2019, RKD (arXiv:1904.05068), eq. 9 to 11: its angles, weight 50
    there, beside `RelationalDistance`.
    """

    def distance(self, student: Rows, teacher: Rows, there: There) -> Float[Array, ""]:
        return functional.relational_angle(student, teacher, there)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbabilisticTransfer(RowRelations):
    """`1/B Σ_i KL(P_i ‖ Q_i)`, nats, with `P_ij ∝ (1 + cos(y_i, y_j)) / 2` over j ≠ i.

    Source: Passalis and Tefas 2018, PKT (arXiv:1803.10837), with its cosine kernel.
    """

    unit = "nats"

    def distance(self, student: Rows, teacher: Rows, there: There) -> Float[Array, ""]:
        return functional.probabilistic_transfer(student, teacher, there)
