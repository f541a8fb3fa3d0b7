"""Entropy of the student's distribution, as a penalty on confidence."""

import dataclasses

import jax.numpy as jnp

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.core.vocab_sums import TiledOutputs
from losses.distillation.alignment import floored


@dataclasses.dataclass(frozen=True)
class ConfidencePenalty(Loss):
    """`-H(q) = Σ_v q_v log q_v`, nats, where `q = softmax(s)`.

    At most 0 (a one-hot q), at least `-log V` (a uniform q). An entry of -inf has
    probability 0 and adds nothing.

    Source: Pereyra et al. 2017 (arXiv:1701.06548), section 3.2, weight 0.1.
    """

    needs = frozenset({"logits"})

    def __call__(self, outputs: Outputs) -> PerToken:
        possible = outputs.logits > -jnp.inf
        finite = jnp.where(possible, outputs.logits, 0.0)
        log_q = finite - outputs.log_normalizer()[..., None]
        return jnp.sum(jnp.where(possible, jnp.exp(log_q) * log_q, 0.0), axis=-1)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        q = outputs.student(1.0)
        mean = outputs.expected(q, lambda tile: floored(q.scores(tile)))
        return mean - outputs.normalizer_of(q)
