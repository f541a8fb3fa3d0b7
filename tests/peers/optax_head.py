"""optax on full logits: what the others are measured against."""

import jax
import jax.numpy as jnp
import optax

from tests.peers.exact import Z_LOSS
from tests.peers.row import Row


def rows() -> list[Row]:
    return [
        Row(
            name="full logits, cross-entropy",
            package="optax",
            loss=cross_entropy,
            target="ce",
        ),
        Row(
            name="full logits, cross-entropy, z-loss",
            package="optax",
            loss=with_z_loss,
            target="ce_z",
        ),
        Row(name="full logits, forward KL", package="optax", loss=kl, target="kl"),
    ]


def cross_entropy(hidden, head, labels, teacher_hidden, teacher_head):
    del teacher_hidden, teacher_head
    values = optax.softmax_cross_entropy_with_integer_labels(hidden @ head, labels)
    return jnp.mean(values)


def with_z_loss(hidden, head, labels, teacher_hidden, teacher_head):
    """Optax has no z-loss: one line more, whose logsumexp XLA shares."""
    del teacher_hidden, teacher_head
    logits = hidden @ head
    values = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(values + Z_LOSS * jax.nn.logsumexp(logits, axis=-1) ** 2)


def kl(hidden, head, labels, teacher_hidden, teacher_head):
    del labels
    q = jax.nn.softmax(teacher_hidden @ teacher_head)
    return jnp.mean(optax.kl_divergence(jax.nn.log_softmax(hidden @ head), q))
