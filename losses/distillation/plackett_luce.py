"""Distillation of the teacher's ranking of the vocabulary."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken
from losses.distillation.decoupled import Targeted


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlackettLuce(Targeted):
    """`Σ_k p_{π_k} (log Σ_{l≥k} exp s_{π_l} - s_{π_k})`, nats.

    π is the target, then all other entries by descending teacher logit, ties by id;
    `p = softmax(t / T)`, while the student has no temperature. Each step is the
    cross-entropy of choosing entry k among those not chosen yet. A label that the
    teacher finds unlikely weighs as little.

    With `target="teacher"`, π is the teacher's own order. Over its best k entries the
    sum then ends at k, and so is at most the whole one; log-normalisers are wanted at 1
    and at T.

    Source: PLD (arXiv:2506.12542), T = 1 on ImageNet, 4 on CIFAR-100; in place of the
    cross-entropy, not beside it.
    """

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (1.0, self.temperature)

    def __call__(self, outputs: Outputs) -> PerToken:
        log_p, _, rest = entries = self.entries(outputs, self.temperature)
        log_q = self.entries(outputs, 1.0).log_q
        chosen = self.chosen(outputs, entries)
        key = jnp.where(chosen, -jnp.inf, -log_p)
        if rest:
            key = key.at[..., -1].set(jnp.inf)
        _, log_p, log_q = jax.lax.sort((key, log_p, log_q), num_keys=1)
        remaining = jax.lax.cumlogsumexp(log_q, axis=log_q.ndim - 1, reverse=True)
        steps = jnp.exp(log_p) * (remaining - log_q)
        return self._scaled(jnp.sum(steps, axis=-1))
