"""Distances between hidden states of student and teacher."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken
from losses.features.layer_pairs import MeanOverLayers

SMALLEST = 1e-12
"""Squared length below which a vector has no direction, and no gradient for one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDistance(MeanOverLayers):
    """A distance between vectors of the same width.

    of: what is compared, `[*b d]`: `"hidden"`, or another intermediate by layer.
    """

    of: str = "hidden"

    @property
    def path(self) -> str:
        return self.of

    def between(
        self, student: jax.Array, teacher: jax.Array, outputs: Outputs
    ) -> PerToken:
        del outputs
        self.check_alike(
            student,
            teacher,
            -1,
            f"features in {self.of}",
            "losses.Projected gives it a projection",
        )
        return self.distance(student, teacher)

    def distance(self, student: jax.Array, teacher: jax.Array) -> PerToken:
        """Of `[*b d]` and `[*b d]`, float32 `[*b]`."""
        raise NotImplementedError(f"{type(self).__name__} does not define distance")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureMSE(FeatureDistance):
    """`1/L Σ_i 1/d Σ_j (s_ij - t_f(i)j)²`, the mean over layers and over the width.

    It holds the student to the size of the teacher's states too; in a residual stream
    that grows with depth the last layers have most of it.

    Source: Romero et al. 2014, FitNets (arXiv:1412.6550), eq. 3, there half the sum
    over the width; Jiao et al. 2019, TinyBERT (arXiv:1909.10351), eq. 8, this mean.
    """

    def distance(self, student: jax.Array, teacher: jax.Array) -> PerToken:
        return jnp.mean(jnp.square(student - teacher), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureCosine(FeatureDistance):
    """`1/L Σ_i (1 - <s_i, t_f(i)> / (|s_i| |t_f(i)|))`, 0 to 2; sees no size.

    Where either vector is zero the cosine is taken as 0, without a gradient.

    Source: Sanh et al. 2019, DistilBERT (arXiv:1910.01108), section 3. Half the squared
    distance of vectors of length 1 (Sun et al. 2019, PKD, arXiv:1908.09355, eq. 7).
    """

    def distance(self, student: jax.Array, teacher: jax.Array) -> PerToken:
        return 1.0 - jnp.sum(_direction(student) * _direction(teacher), axis=-1)


def _direction(x: jax.Array) -> jax.Array:
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    somewhere = square > SMALLEST
    inverse = jax.lax.rsqrt(jnp.where(somewhere, square, 1.0))
    return jnp.where(somewhere, x * inverse, 0.0)
