"""Load balance over the experts of a mixture."""

import dataclasses
from typing import Literal, get_args

from jaxtyping import Array, Float, Int

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.masks import token_mask
from losses.core.outputs import Outputs, PerToken
from losses.functional.routers import (
    Scores,
    balance,
    expert_hits,
    sequence_load_balance,
)
from losses.moe import routers

Layers = Literal["mean", "sum", "pooled"]
Scale = Literal["experts_over_k", "experts"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouterBalance(Loss, abstract=True):
    """Base of the balances: `scale · Σ_e f_{l,e} p_{l,e}`, over the layers l.

    A concrete balance says over which tokens the share `f_{l,e}` is taken.

    Attributes:
      source: the router, by the path of its `_logits` and `_assignments`: `"router"` is
        the student's, `"teacher/router"` the teacher's, a constant to log at weight 0.
        Where the model offers no such path, a dense student say, the run is refused.
      layers: `"mean"` or `"sum"` of the layers, or `"pooled"`: `f` and `p` are averaged
        over the layers before their product, so that one layer may make up for another.
      scale: `"experts_over_k"`, 1 when balanced whatever k, or `"experts"`, k then.
      scores: p of the router's logits: their `"softmax"`, or their `"sigmoid"` over its
        sum, as routers of DeepSeek-V3 have it.

    Raises:
      ValueError: the source is no name, or one of the others no choice.
    """

    source: str = "router"
    layers: Layers = "mean"
    scale: Scale = "experts_over_k"
    scores: Scores = "softmax"
    default_mask = staticmethod(token_mask)
    unit = "1"

    def __post_init__(self):
        routers.check_source(self.source)
        check_choice("layers", self.layers, get_args(Layers))
        check_choice("scale", self.scale, get_args(Scale))
        check_choice("scores", self.scores, get_args(Scores))

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({f"{self.source}_logits", f"{self.source}_assignments"})

    def routing(
        self, outputs: Outputs
    ) -> tuple[Float[Array, "*b layer expert"], Int[Array, "*b layer k"]]:
        """Return the router logits and the k choices of each token."""
        return (
            outputs.intermediate(f"{self.source}_logits"),
            outputs.intermediate(f"{self.source}_assignments"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadBalance(RouterBalance):
    """`1/L Σ_l E/k Σ_e f_{l,e} p_{l,e}`: 1 when balanced, `E/k` when all go to k.

    `p` `[*b layer expert]` is the router's `scores` for this token, `f_{l,e}` the share
    of all counted tokens of the *global* batch that chose expert e among their k, so
    that `Σ_e f_{l,e} = k`. The mean over tokens is the product form of the sources;
    because `f` carries no gradient and is known for the whole batch, it is exact under
    accumulation, token blocks and any mesh.

    Counts every token that is not padding (`token_mask`): it passes through the experts
    whether or not it has a target. `mask=target_mask` would leave out prompts, and
    disagree with the logged load.

    Source: Qiu et al. 2025 (arXiv:2501.11873): `f` over the global batch, not over one
    device's, lets experts specialise; weight 1e-2 to 1e-3. The options, by peer:

        Switch Transformer (arXiv:2101.03961, eq. 4-6; k = 1)   layers="sum"
        Qwen, Megatron-LM global load balance                   layers="sum"
        Mixtral in transformers                 layers="pooled", scale="experts"

    MaxText and DeepSeek balance sequences: `SequenceLoadBalance`.
    """

    tiled = True

    def statistics(
        self, outputs: Outputs
    ) -> dict[str, Float[Array, "*b layer expert"]]:
        """Return `share`: 1 where the token chose the expert."""
        return {"share": expert_hits(*self.routing(outputs))}

    def __call__(self, outputs: Outputs) -> PerToken:
        return balance(
            *self.routing(outputs),
            outputs.statistics["share"],
            layers=self.layers,
            scale=self.scale,
            scores=self.scores,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceLoadBalance(RouterBalance):
    """As `LoadBalance`, with `f_{l,e}` the share of the token's own sequence.

    A sequence is a row of the batch, its documents together; padding is in no share.
    Stricter: a sequence of one kind of text may not prefer the experts of that kind.
    Sequences weigh by their counted tokens, which is the published mean over sequences
    where all are full.

    Source, by peer:

        DeepSeek-V2 (arXiv:2405.04434, eq. 23-25)        layers="sum"
        DeepSeek-V3 (arXiv:2412.19437, eq. 17-20)        layers="sum", scores="sigmoid"
        MaxText `load_balance_loss`                      scale="experts"
    """

    scope = "sequence"
    tiled = True

    def __call__(self, outputs: Outputs) -> PerToken:
        return sequence_load_balance(
            *self.routing(outputs),
            outputs.mask,
            layers=self.layers,
            scale=self.scale,
            scores=self.scores,
        )
