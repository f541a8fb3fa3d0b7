"""Self-distillation with a weak head (USKD): soft targets without a teacher."""

from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from losses.core.affine import Affine
from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.functional.features import affine
from losses.functional.targeted import uskd

RANKED_BY = ("probabilities", "log_probabilities")
_SQUARE = "square of the target's probability"


class USKD(Loss, nnx.Module):
    """`-α p_y log q_y - β Σ_{i≠y} z_i log q̂_i - μ Σ_i l_i log w_i`, nats.

    Three soft targets that the student makes itself, y being the target:

    * `p_y = q_y² + 1 - E[q²_y]`, E the mean over the global batch; its mean is 1;
    * z, Zipf's law `1/rank` over the entries, renormalised without y; ranks are those
      of `w_i / (1 - w_y) + q_i / (1 - q_y)`. `q̂` is the softmax without y;
    * w, the softmax of a weak head `W h + b` of earlier features h, learns smoothed
      labels `l = 0.9 · 1[i = y] + 0.1 / V`.

    The weak head is trained and checkpointed with the student and is no part of it. A
    loss of its own: no cross-entropy beside it.

    Args:
      of: path of h, `[*b d]`.
      dim: d.
      num_outputs: V.
      target_weight: α.
      non_target_weight: β.
      weak_weight: μ.
      ranked_by: `"probabilities"`, as in the paper, or `"log_probabilities"`, as the
        released code has the student's part, by a name that it uses twice.
      rngs: of the initial values.

    Source: Yang et al. 2023 (arXiv:2303.13005), its USKD; α = 1, β = 0.1 and
    μ = 0.005 on ImageNet, 0.1 each on CIFAR-100.

    Raises:
      ValueError: a size is below 1, a weight negative, or there is no such order.
    """

    tiled = False

    def __init__(
        self,
        *,
        of: str,
        dim: int,
        num_outputs: int,
        target_weight: float = 1.0,
        non_target_weight: float = 0.1,
        weak_weight: float = 0.005,
        ranked_by: Literal["probabilities", "log_probabilities"] = "probabilities",
        rngs: nnx.Rngs,
    ):
        for name, size in (("dim", dim), ("num_outputs", num_outputs)):
            if size < 1:
                raise ValueError(f"{name} must be positive, got {size}")
        self.weights = target_weight, non_target_weight, weak_weight
        if not all(0.0 <= weight < float("inf") for weight in self.weights):
            raise ValueError(f"weights must be at least 0, got {self.weights}")
        check_choice("ranked_by", ranked_by, RANKED_BY)
        self.of, self.dim, self.num_outputs = of, dim, num_outputs
        self.ranked_by = ranked_by
        self.weak = Affine(dim, num_outputs, axes=("embed", "vocab"), rngs=rngs)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({"logits", self.of})

    def statistics(self, outputs: Outputs) -> Mapping[str, Float[Array, "*b"]]:
        log_q = outputs.target_logits() - outputs.log_normalizer()
        return {_SQUARE: jnp.exp(2.0 * log_q)}

    def __call__(self, outputs: Outputs) -> PerToken:
        hidden = outputs.intermediate(self.of)
        if hidden.shape[-1] != self.dim or outputs.num_outputs != self.num_outputs:
            raise IncompatibleLoss(
                f"USKD(dim={self.dim}, num_outputs={self.num_outputs}) reads {self.of} "
                f"of width {hidden.shape[-1]} and {outputs.num_outputs} logits"
            )
        return uskd(
            outputs.logits,
            affine(hidden, *self.weak.arrays()),
            outputs.batch["targets"],
            outputs.statistics[_SQUARE],
            weights=self.weights,
            ranked_by=self.ranked_by,
        )
