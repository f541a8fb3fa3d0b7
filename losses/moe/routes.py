"""Routes of rows through a mixture's experts: metrics."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.masks import token_mask
from losses.core.of_rows import Feature, OfRows, Rows, There
from losses.core.outputs import IncompatibleLoss, Outputs
from losses.functional.routers import route_consistency, route_distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteDistance(OfRows):
    """The mean edit distance between the routes of two rows, over all pairs of rows.

    A row's route is, layer after layer, its experts by their mean probability over the
    row's tokens, the greatest first, as many as have `mass` of it together. Insertions,
    deletions and substitutions of an expert of a layer count 1 each (Levenshtein). As a
    metric (`Evaluation(metrics=[...])`) over the rows of a batch of the evaluation, it
    costs B² distances. Counts every token that is not padding. It has no gradient.

    Source: "Where to find grokking in LLM pretraining?" (arXiv:2506.21551), its pathway
    distance, mass 0.7, which falls while the test accuracy rises.

    Attributes:
      mass: of the experts of a layer, above 0, at most 1: all of them.

    Raises:
      ValueError: the mass is outside of its range.
    """

    mass: float = 0.7
    needs = frozenset({"router_logits"})
    unit = "edits"
    default_mask = staticmethod(token_mask)

    def __post_init__(self):
        if not 0.0 < self.mass <= 1.0:
            raise ValueError(f"mass must be above 0 and at most 1, got {self.mass}")

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        shares = jax.nn.softmax(outputs.intermediate("router_logits"))
        weights = jnp.ones(outputs.batch["targets"].shape, jnp.float32)
        layers = range(shares.shape[-2])
        return {f"teacher/{i:04}": Feature(shares[..., i, :], weights) for i in layers}

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        layers = jnp.stack([rows[name] for name in sorted(rows)], axis=1)
        return route_distance(layers, there, mass=self.mass)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteConsistency(OfRows):
    """`1 - mean_l c_l / (max_l c_l + 1e-8)`, `c_l = cos(e_l, e_{l+1})`, of a row.

    e_l is `Σ_k g_k W_k` of a layer: the columns of its router, by the gates of the
    chosen experts, a mean over the row's tokens. 0 where consecutive layers turn all
    alike; it is larger where some turn more than others, and has no upper bound. Its
    text calls lower ones smoother, and its Table 1 has it rise with the test accuracy
    (correlations .93 to .99): the sign is to be read with care. Counts every token that
    is not padding. It has no gradient.

    Source: "Where to find grokking in LLM pretraining?" (arXiv:2506.21551), its
    consistency of a single sample's pathway.
    """

    needs = frozenset({"router_embedding"})
    default_mask = staticmethod(token_mask)

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        embeddings = outputs.intermediate("router_embedding")
        weights = jnp.ones(outputs.batch["targets"].shape, jnp.float32)
        layers = range(embeddings.shape[-2])
        if len(layers) < 2:
            raise IncompatibleLoss("RouteConsistency compares layers: it sees one")
        return {
            f"teacher/{i:04}": Feature(embeddings[..., i, :], weights) for i in layers
        }

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        layers = jnp.stack([rows[name] for name in sorted(rows)], axis=1)
        return route_consistency(layers, there)
