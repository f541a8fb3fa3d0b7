"""Contrastive losses with the whole global batch for negatives."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.of_rows import Feature, OfRows, Rows, There
from losses.core.outputs import Outputs
from losses.functional.in_batch import info_nce
from losses.preference.sequences import FIRST, SECOND

_SIDES = {"query": FIRST, "key": SECOND}


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfoNCE(OfRows):
    """`-mean_i log(e^{s_ii} / (e^{s_ii} + Σ_{j≠i} w_ij e^{s_ij}))`, nats.

    `s_ij = q_i · k_j / T`: a row holds a query as its segment 1 and its key as its
    segment 2 (`data.PreferencePairs` lays them out so), each the mean of a hidden state
    over its counted tokens, and the keys of all other rows of the global batch are
    negatives, whatever the batch is cut into. A cosine is a matter of the model: end
    it with a norm.

    With `alpha = 0` every w is 1. Else `w_ij = max((β - α p_ij) / (β - α/K), floor)`,
    `p_ij` the softmax over the K other rows of the products of the *teacher's* hidden
    states of query i and key j: negatives that it finds alike count less, at α below 0
    more. Before the floor, `Σ_j w_ij = K`.

    Source: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; w: Li et al. 2023,
    Soft-InfoNCE (arXiv:2310.08069), α = β = 1 there, without a T.

    Attributes:
      of: path of the hidden state, `[*b d]`: `"trunk"` is what the head reads.
      temperature: T.
      alpha: α.
      beta: β.
      floor: the least weight.

    Raises:
      ValueError: T or the floor is not positive, or a number not finite.
    """

    of: str = "trunk"
    temperature: float = 0.05
    alpha: float = 0.0
    beta: float = 1.0
    floor: float = 0.1
    unit = "nats"

    def __post_init__(self):
        for name in ("temperature", "floor"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("alpha", "beta"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({self.of, f"teacher/{self.of}"} if self.alpha else {self.of})

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        segments = outputs.batch["segment_ids"]
        features = {}
        for path in sorted(self.needs):
            prefix = path.removesuffix(self.of)  # "teacher/" or nothing
            for side, segment in _SIDES.items():
                inside = (segments == segment).astype(jnp.float32)
                features[prefix + side] = Feature(outputs.intermediate(path), inside)
        return features

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        similar = None
        if self.alpha:
            similar = rows["teacher/query"], rows["teacher/key"]
        return info_nce(
            rows["query"],
            rows["key"],
            there,
            temperature=self.temperature,
            similar=similar,
            alpha=self.alpha,
            beta=self.beta,
            floor=self.floor,
        )
