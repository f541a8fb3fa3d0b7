"""Transfer of features to labels by their nearest neighbours. A metric."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.columns import column
from losses.core.of_rows import Feature, OfRows, Rows, There
from losses.core.outputs import Outputs
from losses.functional.rows import neighbor_accuracy

_LABEL = "teacher/label"  # constant, as what is the teacher's


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighborAccuracy(OfRows):
    """The share of rows whose label is that of most of their k nearest others.

    Nearest by the cosine of features, each row's the mean over its counted tokens; of
    labels with as many neighbours the lower. What a model's features know of labels,
    whatever its head says of them: with images of other classes than it was trained
    on, its k-NN transfer. As a metric (`Evaluation(metrics=[...])`) over the rows of a
    batch of the evaluation, each beside all others: let `batch_size` hold them all. It
    has no gradient.

    Source: "Are we truly forgetting?" (arXiv:2503.06991), k = 5, there with the
    neighbours in other rows than those that are asked.

    Attributes:
      of: path of the features, `[*b d]`; `"teacher/trunk"` are the teacher's.
      neighbors: k.
      label: entry of the batch with the labels, integers; a column (`data.Columns`).

    Raises:
      ValueError: k is below 1.
    """

    of: str = "trunk"
    neighbors: int = 5
    label: str = "targets"

    def __post_init__(self):
        if self.neighbors < 1:
            raise ValueError(f"neighbors must be at least 1, got {self.neighbors}")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({self.of})

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        labels = column(outputs.batch, self.label).astype(jnp.float32)
        weights = jnp.ones(labels.shape, jnp.float32)
        x = outputs.intermediate(self.of)
        return {
            "teacher/features": Feature(x, weights),
            _LABEL: Feature(labels[..., None], weights),
        }

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        labels = jnp.round(rows[_LABEL][:, 0]).astype(jnp.int32)
        return neighbor_accuracy(
            rows["teacher/features"], labels, there, neighbors=self.neighbors
        )
