"""Centred kernel alignment (CKA) between hidden states."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.of_means import Means, OfMeans
from losses.core.outputs import Outputs, PerToken
from losses.features.layer_pairs import OverLayers
from losses.functional.features import alignment, contract, flatten_tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class CKA(OfMeans, OverLayers):
    """`1/L Σ_i (1 - CKA(S_i, T_f(i)))`, 0 to 1, of the tokens of the global batch.

        CKA(X, Y) = |C_xy|² / (|C_xx| |C_yy|)

    with `C_xy [d d']` the covariance over all counted tokens and Frobenius norms: the
    linear, centred kernel alignment. Orthogonal maps, offsets and one scale on either
    side leave it as it is; the widths may differ, and nothing is learnt beside the
    student. Since covariances are functions of means, it is exact under accumulation
    and any mesh (`losses.OfMeans`). It costs about nine matmuls of `d` by `d'` a token.

    It is biased upwards when tokens are few beside the width: of independent features
    it is about `(d d')^½ / N` and more, near 1 where N is below d (Nguyen et al. 2020,
    arXiv:2010.15327, section 3). Let the global batch have many times d tokens.

    A first pass over the batch takes the means and a second one the covariances around
    them, so that features may lie far from zero, as hidden states do.

    Source: Kornblith et al. 2019 (arXiv:1905.00414), eq. 4 and section 3; in
    distillation Saha et al. 2022 (arXiv:2206.13530).

    Attributes:
      layers: as in `OverLayers`.
      of: the intermediate to compare, `[*b d]`: `"hidden"`, or another by layer.
    """

    of: str = "hidden"
    unit = "1"
    statistic_passes = 2

    @property
    def path(self) -> str:
        return self.of

    def statistic_sums(self, outputs: Outputs, tokens: PerToken) -> Means:
        weights = tokens.reshape(-1, 1)
        sums, centred = {}, {}
        for path in self.needs:
            x = flatten_tokens(outputs.intermediate(path))
            centre = outputs.statistics.get(_mean(path), jnp.zeros(x.shape[-1]))
            centred[path] = x - jnp.broadcast_to(centre, x.shape)
            sums[_mean(path)] = jnp.sum(x * weights, axis=0)
        weighted = {path: x * weights for path, x in centred.items()}
        sums |= {_offset(path): jnp.sum(x, axis=0) for path, x in weighted.items()}
        products = {
            *((path, path) for path in self.needs),
            *self.paths,
        }
        for x, y in sorted(products):
            sums[_product(x, y)] = contract("nd,ne->de", weighted[x], centred[y])
        return sums

    def of_means(self, means: Means) -> Float[Array, ""]:
        similarities = [
            alignment(
                _covariance(means, x, y),
                _covariance(means, x, x),
                _covariance(means, y, y),
            )
            for x, y in self.paths
        ]
        return 1.0 - jnp.mean(jnp.stack(similarities))

    def deviation(self, outputs: Outputs, slopes: Means) -> PerToken:
        """Return `(x - μ_x)ᵀ G_xy (y - μ_y) + (x - μ_x)ᵀ G_xx (x - μ_x)`, centred.

        G is the slope in a covariance, the part through the means included. The
        teacher's own covariance is left out: its mean is zero and it has no gradient.
        """
        means = outputs.statistics
        centred = {path: _centred(outputs, path) for path in self.needs}
        products = {(x, x) for x, _ in self.paths} | set(self.paths)
        total = jnp.zeros(outputs.batch["targets"].shape, jnp.float32)
        for x, y in sorted(products):
            slope = slopes[_product(x, y)]
            value = jnp.sum(centred[x] * (centred[y] @ slope.T), axis=-1)
            total = total + value - jnp.sum(slope * _covariance(means, x, y))
        return total


def _covariance(means: Means, x: str, y: str) -> Float[Array, "d e"]:
    outer = jnp.outer(means[_offset(x)], means[_offset(y)])
    return means[_product(x, y)] - outer


def _centred(outputs: Outputs, path: str) -> Float[Array, "*b d"]:
    x = outputs.intermediate(path).astype(jnp.float32)
    return x - jnp.broadcast_to(outputs.statistics[_mean(path)], x.shape)


def _mean(path: str) -> str:
    return f"mean of {path}"


def _offset(path: str) -> str:
    return f"mean of {path} around the centre"


def _product(x: str, y: str) -> str:
    return f"{x} by {y}"
