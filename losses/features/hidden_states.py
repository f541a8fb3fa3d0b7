"""Distances between hidden states of student and teacher."""

import abc
import dataclasses

from losses.core.outputs import Outputs, PerToken
from losses.features.layer_pairs import Features, MeanOverLayers
from losses.functional import features


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDistance(MeanOverLayers, abstract=True):
    """Base of distances between vectors of the same width.

    Attributes:
      layers: as in `OverLayers`.
      of: the intermediate to compare, `[*b d]`: `"hidden"`, or another by layer.
    """

    of: str = "hidden"
    unit = "1"

    @property
    def path(self) -> str:
        return self.of

    def layer_distance(
        self, student: Features, teacher: Features, outputs: Outputs
    ) -> PerToken:
        del outputs
        self.check_sizes(
            student,
            teacher,
            axis=-1,
            name=f"features in {self.of}",
            remedy="losses.Projected gives it a projection",
        )
        return self.distance(student, teacher)

    @abc.abstractmethod
    def distance(self, student: Features, teacher: Features) -> PerToken:
        """Return the distance between `[*b d]` and `[*b d]`, float32 `[*b]`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureMSE(FeatureDistance):
    """`1/L Σ_i 1/d Σ_j (s_ij - t_f(i)j)²`, the mean over layers and over the width.

    It holds the student to the size of the teacher's states too; in a residual stream
    that grows with depth the last layers have most of it.

    Source: Romero et al. 2014, FitNets (arXiv:1412.6550), eq. 3, there half the sum
    over the width; Jiao et al. 2019, TinyBERT (arXiv:1909.10351), eq. 8, this mean.
    """

    def distance(self, student: Features, teacher: Features) -> PerToken:
        return features.feature_mse(student, teacher)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureCosine(FeatureDistance):
    """`1/L Σ_i (1 - <s_i, t_f(i)> / (|s_i| |t_f(i)|))`, 0 to 2; free of sizes.

    Where either vector is zero the cosine is taken as 0, without a gradient.

    Source: Sanh et al. 2019, DistilBERT (arXiv:1910.01108), section 3. Half the squared
    distance of vectors of length 1 (Sun et al. 2019, PKD, arXiv:1908.09355, eq. 7).
    """

    def distance(self, student: Features, teacher: Features) -> PerToken:
        return features.feature_cosine(student, teacher)
