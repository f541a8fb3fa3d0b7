"""Linear heads in closed form, from counts, means and variances of features by class.

Pure functions of arrays, in float64.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMoments:
    """Moments of features by class, of K classes and d features.

    Attributes:
      counts: of examples, `[K]`.
      means: `[K d]`; anything where there is none.
      squares: sums of squared distances from the means, `[K d]`.
    """

    counts: np.ndarray
    means: np.ndarray
    squares: np.ndarray

    def __add__(self, other: "ClassMoments") -> "ClassMoments":
        """Return those of both sets of examples together.

        Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise
        algorithm for computing sample variances", eq. 2.1.
        """
        counts = self.counts + other.counts
        share = (other.counts / np.maximum(counts, 1.0))[:, None]
        between = other.means - self.means
        return ClassMoments(
            counts=counts,
            means=self.means + share * between,
            squares=self.squares
            + other.squares
            + self.counts[:, None] * share * np.square(between),
        )


def naive_bayes(
    moments: ClassMoments, *, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel `[K d]` and bias `[K]` of Gaussian naive Bayes of one variance.

    With `v_j = Σ_k π_k σ_kj²`, one variance of a feature for all classes,

        log π_k - ½ Σ_j (x_j - μ_kj)² / v_j  =  w_k · x + b_k + (what no k is in)
        w_k = μ_k / v        b_k = log π_k - ½ Σ_j μ_kj² / v_j

    A class without examples has the mean of all and half an example.

    Args:
      moments: of the features.
      smoothing: added to every v_j, times the mean of all features' variances.

    Source: Zheng et al. 2023 (arXiv:2302.02334), whose code adds 1e-9, whatever the
    features' scale is.
    """
    total = moments.counts.sum()
    some = (moments.counts > 0.0)[:, None]
    center = moments.counts @ np.where(some, moments.means, 0.0) / total
    means = np.where(some, moments.means, center)
    within = moments.squares.sum(axis=0) / total
    between = moments.counts @ np.square(means - center) / total
    variance = within + smoothing * np.mean(within + between)
    kernel = means / variance
    prior = np.log(np.maximum(moments.counts, 0.5) / total)
    return kernel, prior - 0.5 * np.sum(means * kernel, axis=1)


def class_sums(moments: ClassMoments) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel `K/N Σ_{y_i = k} x_i`, `[K d]`, and no bias.

    Of balanced classes these are the class means.

    Source: AMU-Tuning (arXiv:2404.08958), of features of norm 1.
    """
    share = moments.counts * len(moments.counts) / moments.counts.sum()
    kernel = share[:, None] * np.where(share[:, None] > 0.0, moments.means, 0.0)
    return kernel, np.zeros(len(share))
