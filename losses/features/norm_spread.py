"""Spread of the norms of hidden states, which a model without norms is to lose."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.core.loss import Loss
from losses.core.masks import token_mask
from losses.core.outputs import Outputs, PerToken
from losses.functional.features import norm_spread_from_mean, stddev_of_entries

_SUM, _SHARE = "deviations of ordinary tokens", "ordinary tokens"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormSpread(Loss):
    """`(σ_t - E[σ])²`, σ_t the standard deviation of a token's hidden state.

    E is the mean over the ordinary tokens of the global batch, without a gradient: all
    but the first of each text, and those that end one. Of the first and the last, which
    attention fills with large states, the loss is counted too. With
    `models.NormRemoval`, at the layer that the last norm reads: before it turns into a
    map, all tokens come to the size that one constant divides well. Counts every token
    that is not padding.

    Source: Baroni et al. 2025 (arXiv:2507.02559), its auxiliary loss; weight 0.1 for
    GPT-2 small and medium, 0.03 for large, 0.01 for XL.

    Attributes:
      layer: the block whose output is read; the last one, as published.
      end: id of the token that ends a text; None for none.

    Raises:
      ValueError: a number is negative.
    """

    layer: int
    end: int | None = None
    unit = "1"
    tiled = True
    default_mask = staticmethod(token_mask)

    def __post_init__(self):
        if self.layer < 0 or (self.end is not None and self.end < 0):
            raise ValueError(f"layer and end must be at least 0, got {self}")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({f"hidden/{self.layer}"})

    def statistics(self, outputs: Outputs) -> Mapping[str, Float[Array, "*b"]]:
        share = self._ordinary(outputs).astype(jnp.float32)
        return {_SUM: share * self._deviations(outputs), _SHARE: share}

    def __call__(self, outputs: Outputs) -> PerToken:
        share = outputs.statistics[_SHARE]
        mean = outputs.statistics[_SUM] / jnp.where(share > 0.0, share, 1.0)
        return norm_spread_from_mean(self._deviations(outputs), mean)

    def _deviations(self, outputs: Outputs) -> PerToken:
        return stddev_of_entries(outputs.intermediate(f"hidden/{self.layer}"))

    def _ordinary(self, outputs: Outputs) -> Bool[Array, "*b"]:
        ordinary = outputs.batch["positions"] > 0
        if self.end is not None:
            ordinary &= outputs.batch["tokens"] != self.end
        return ordinary
