"""Choice of experts by scores other than a softmax over all of them."""

import dataclasses

import jax
import jax.numpy as jnp

SCORES = ("sigmoid", "softmax")
_LEAST = 1e-20  # so that gates of scores that are all 0 are 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routing:
    """From a router's logits to experts and gates (`MoE.routing`).

    Attributes:
      scores: `"softmax"` over the experts, or `"sigmoid"` of each logit.
      bias: there is an `ExpertBias`, which a published model may bring; it stays as it
        is unless `MoE.bias_rate` moves it.
      num_groups: groups of as many neighboring experts each.
      groups_per_token: groups that a token's experts are of: those whose two best
        scores, biases included, have the largest sums.
      gate_scale: factor on gates.

    Source: DeepSeek-V3 (arXiv:2412.19437), section 2.1.2, equations 12 to 16; groups as
    in its code.
    """

    scores: str = "softmax"
    bias: bool = False
    num_groups: int = 1
    groups_per_token: int = 1
    gate_scale: float = 1.0

    def __post_init__(self):
        if self.scores not in SCORES:
            raise ValueError(f"scores must be one of {SCORES}, got {self.scores!r}")
        if self.num_groups < 1 or not self.gate_scale > 0:
            raise ValueError(
                "num_groups and gate_scale must be positive, got "
                f"{self.num_groups} and {self.gate_scale}"
            )
        if not 1 <= self.groups_per_token <= self.num_groups:
            raise ValueError(
                f"groups_per_token must be from 1 to num_groups ({self.num_groups}), "
                f"got {self.groups_per_token}"
            )

    def check(self, *, num_experts: int, experts_per_token: int) -> None:
        """Refuse numbers of experts that these groups do not have.

        Raises:
          ValueError: with the numbers.
        """
        if self.num_groups == 1:
            return
        size, rest = divmod(num_experts, self.num_groups)
        if rest:
            raise ValueError(
                "num_experts must be divisible by num_groups, got "
                f"{num_experts} and {self.num_groups}"
            )
        if size < 2 or experts_per_token > size * self.groups_per_token:
            raise ValueError(
                f"groups of {size} experts, {self.groups_per_token} a token: each must "
                f"have two, and experts_per_token ({experts_per_token}) must be in them"
            )

    def choose(
        self,
        logits: jax.Array,
        bias: jax.Array | None,
        experts_per_token: int,
        renormalize: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """Return gates and experts `[*b k]`, best first.

        Args:
          logits: `[*b expert]`, float32.
          bias: `[expert]`, added for the choice alone.
          experts_per_token: k.
          renormalize: divide gates by their sum.
        """
        sigmoid = self.scores == "sigmoid"
        scores = jax.nn.sigmoid(logits) if sigmoid else jax.nn.softmax(logits)
        biased = scores
        if bias is not None:
            biased = scores + jnp.broadcast_to(bias, scores.shape)
        if self.num_groups > 1:
            biased = self._within_groups(biased)
        _, chosen = jax.lax.top_k(biased, experts_per_token)
        gates = jnp.take_along_axis(scores, chosen, axis=-1)
        if renormalize:
            gates = gates / (jnp.sum(gates, axis=-1, keepdims=True) + _LEAST)
        return gates * self.gate_scale, chosen

    def _within_groups(self, scores: jax.Array) -> jax.Array:
        """Return `scores [*b expert]`, -inf outside of each token's groups."""
        grouped = scores.reshape(*scores.shape[:-1], self.num_groups, -1)
        best_two, _ = jax.lax.top_k(grouped, 2)
        _, groups = jax.lax.top_k(jnp.sum(best_two, axis=-1), self.groups_per_token)
        within = jnp.sum(jax.nn.one_hot(groups, self.num_groups), axis=-2) > 0
        within = jnp.broadcast_to(jnp.expand_dims(within, -1), grouped.shape)
        return jnp.where(within, grouped, -jnp.inf).reshape(scores.shape)
