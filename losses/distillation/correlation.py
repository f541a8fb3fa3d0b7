"""Correlation of teacher and student probabilities (DIST).

`p = softmax(t / T)` and `q = softmax(s / T)` over the ids that both sides have;
`r(x, y) = cov / sqrt((var x + ε) (var y + ε))` is Pearson's correlation.
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.loss import Loss
from losses.core.of_means import Means, OfMeans
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.distillation.alignment import align, teacher_of
from losses.distillation.divergence import check_temperature
from losses.functional import correlation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Correlation(Loss, abstract=True):
    """Base of correlation losses; reads whole logits of the teacher alone.

    Attributes:
      temperature: T.
      scale_by_temperature_squared: as in `Divergence`.
      epsilon: added to each variance (over the vocabulary: to V times it), so that a
        constant correlates with nothing and has a finite gradient.

    Raises:
      ValueError: the temperature or epsilon is not positive.
    """

    temperature: float = 1.0
    scale_by_temperature_squared: bool = False
    epsilon: float = 1e-12

    needs = frozenset({"logits", "teacher/logits"})
    unit = "1"

    def __post_init__(self):
        check_temperature(self.temperature)
        if not 0.0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be positive, got {self.epsilon}")

    def check_records(self, stored: RecordSpec) -> None:
        if stored.mode != "full":
            contents = "draws" if stored.mode == "sampled" else "the best entries"
            raise ValueError(
                f"{type(self).__name__} correlates whole distributions, and the "
                f"records hold {contents}"
            )

    def _probabilities(
        self, outputs: Outputs
    ) -> tuple[Float[Array, "*b v"], Float[Array, "*b v"]]:
        """Return the teacher's and the student's, `[*b v]`."""
        teacher = teacher_of(outputs)
        if teacher.logits is None or teacher.indices is not None:
            raise ValueError(f"{type(self).__name__} wants the teacher's whole logits")
        entries = align(
            outputs, temperature=self.temperature, sparse="renormalize_both"
        )
        return jnp.exp(entries.log_p), jnp.exp(entries.log_q)

    def _scaled(self, distance: Float[Array, "..."]) -> Float[Array, "..."]:
        if self.scale_by_temperature_squared:
            return distance * self.temperature**2
        return distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class InterClassCorrelation(_Correlation):
    """`1 - r_v(p_v, q_v)`, in [0, 2]: over the vocabulary, for each token.

    0 where q is a p + c: the student keeps the teacher's relations between classes and
    is free in how sure it is.

    Source: Huang et al. 2022, DIST (arXiv:2205.10536), its inter-class part; weight 2
    beside a cross-entropy of 1 and an `IntraClassCorrelation` of 2. T = 4 on CIFAR-100
    with `scale_by_temperature_squared`, 1 on ImageNet.
    """

    tiled = False

    def __call__(self, outputs: Outputs) -> PerToken:
        p, q = self._probabilities(outputs)
        return self._scaled(
            correlation.inter_class_distance(p, q, epsilon=self.epsilon)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntraClassCorrelation(_Correlation, OfMeans):
    """`1/V Σ_v (1 - r_b(p_v, q_v))`, in [0, 2]: over the tokens, for each class.

    The tokens are those that the term counts in the whole global batch, whatever it is
    cut into (in the source, those of one device). As variances are differences of
    means in float32, one below about 1e-7 times the squared mean is noise: at language
    vocabularies, rare entries are.

    Source: Huang et al. 2022, DIST (arXiv:2205.10536), its intra-class part.
    """

    epsilon: float = 1e-9

    tiled = False

    def statistics(self, outputs: Outputs) -> dict[str, Float[Array, "*b v"]]:
        """Return the first and second moments of p and q, `[*b v]`."""
        return correlation.moments(*self._probabilities(outputs))

    def of_means(self, means: Means) -> Float[Array, ""]:
        distances = correlation.intra_class_distances(means, epsilon=self.epsilon)
        return jnp.mean(self._scaled(distances))
