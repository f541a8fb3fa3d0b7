"""Where the student's heads look, beside where the teacher's do."""

import dataclasses

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs, PerToken
from losses.distillation.kl import kl
from losses.features.layer_pairs import MeanOverLayers


def row_kl(teacher: jax.Array, student: jax.Array, seen: jax.Array) -> jax.Array:
    """`KL(softmax t ‖ softmax s)`, nats, over the keys `[... s]` that are seen.

    Of these there must be one in every row.
    """

    def log_probabilities(scores: jax.Array) -> jax.Array:
        over = jax.nn.log_softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.where(seen, over, 0.0)

    return kl(log_probabilities(teacher), log_probabilities(student))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionLoss(MeanOverLayers):
    """A distance between rows of scores, `[*b heads t]`, head h with head h.

    A key that either side may not see (padding, another document, a later token, one
    beyond its window) is left out.
    """

    @property
    def path(self) -> str:
        return "attention"

    def between(
        self, student: jax.Array, teacher: jax.Array, outputs: Outputs
    ) -> PerToken:
        del outputs
        self.check_alike(
            student,
            teacher,
            -2,
            "attention heads",
            "losses.Relations compares any number of them",
        )
        seen = (student > -jnp.inf) & (teacher > -jnp.inf)
        return jnp.mean(self.over_rows(student, teacher, seen), axis=-1)

    def over_rows(
        self, student: jax.Array, teacher: jax.Array, seen: jax.Array
    ) -> jax.Array:
        """`[*b heads t]` each, to `[*b heads]`."""
        raise NotImplementedError(f"{type(self).__name__} does not define over_rows")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionKL(AttentionLoss):
    """`1/L Σ_i 1/H Σ_h KL(P_h ‖ S_h)`, nats, of the attention that a token pays.

    P and S are the teacher's and the student's softmax over the keys.

    Source: Wang et al. 2020, MiniLM (arXiv:2002.10957), eq. 7, of the last layer.
    """

    def over_rows(
        self, student: jax.Array, teacher: jax.Array, seen: jax.Array
    ) -> jax.Array:
        return row_kl(teacher, student, seen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionMSE(AttentionLoss):
    """`1/L Σ_i 1/H Σ_h 1/n Σ_k (s_hk - t_hk)²`, of scores before the softmax.

    n is the number of keys that the token sees. A constant added to all scores of a
    row, which attention does not see, is seen here.

    Source: Jiao et al. 2019, TinyBERT (arXiv:1909.10351), eq. 7, there over all keys of
    the padded sequence.
    """

    def over_rows(
        self, student: jax.Array, teacher: jax.Array, seen: jax.Array
    ) -> jax.Array:
        gap = jnp.where(seen, student, 0.0) - jnp.where(seen, teacher, 0.0)
        count = jnp.sum(seen, axis=-1, dtype=jnp.float32)
        return jnp.sum(jnp.square(gap), axis=-1) / jnp.maximum(count, 1.0)
