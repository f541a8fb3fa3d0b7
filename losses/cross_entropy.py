"""Cross-entropy against the targets, plain and label-smoothed."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.base import Loss, Outputs, PerToken


def target_logits(outputs: Outputs) -> jax.Array:
    """`s_y`, `[*b]`: the student's logit of each target."""
    vocabulary = jax.lax.broadcasted_iota(
        jnp.int32, outputs.logits.shape, outputs.logits.ndim - 1
    )
    chosen = vocabulary == outputs.batch["targets"][..., None]
    return jnp.sum(jnp.where(chosen, outputs.logits, 0.0), axis=-1)


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """`log Z - s_y`, nats: the negative log-probability of the target.

    `Z = Σ_v exp s_v`. The target's logit is read by a select and a sum, which fuse,
    where a gather would have a scatter for a gradient.
    """

    needs = frozenset({"logits"})

    def __call__(self, outputs: Outputs) -> PerToken:
        return outputs.log_normalizer() - target_logits(outputs)


@dataclasses.dataclass(frozen=True)
class SmoothedCrossEntropy(Loss):
    """`log Z - (1 - ε) s_y - ε/V Σ_v s_v`, nats: targets mixed with the uniform.

    The target distribution is `(1 - ε) onehot(y) + ε/V`, the convention of
    `optax.smooth_labels`. Every logit must be finite.

    Source: Szegedy et al. 2016 (arXiv:1512.00567), section 7.

    Raises:
      ValueError: epsilon is outside [0, 1).
    """

    epsilon: float = 0.1
    needs = frozenset({"logits"})

    def __post_init__(self):
        if not 0.0 <= self.epsilon < 1.0:
            raise ValueError(f"epsilon must be in [0, 1), got {self.epsilon}")

    def __call__(self, outputs: Outputs) -> PerToken:
        uniform = jnp.mean(outputs.logits, axis=-1)
        picked = target_logits(outputs)
        return (
            outputs.log_normalizer()
            - (1.0 - self.epsilon) * picked
            - self.epsilon * uniform
        )
