"""The contrastive loss of an attack on images: each beside its caption and others."""

import jax
import jax.numpy as jnp

APART = -1e9
"""Score of a pair of which one does not count."""


def contrast(
    images: jax.Array, texts: jax.Array, mask: jax.Array, *, group: int
) -> jax.Array:
    """Return `½ (-log softmax_j(s_ij)_i - log softmax_j(s_ji)_i)`, nats, `[b]`.

    `s_ij = <image_i, text_j>`, of the rows j of i's group. Of n groups, number k holds
    the rows k, k + n, k + 2n, ...: the same rows however the step is cut into
    microbatches, if these are whole groups.

    Args:
      images: `[b d]`.
      texts: `[b d]`, the scale among them.
      mask: rows that count; of others any finite value, `[b]`.
      group: rows of a group.

    Raises:
      ValueError: the rows are no whole groups.
    """
    rows = len(images)
    if rows % group:
        raise ValueError(f"groups of {group} rows do not divide a microbatch of {rows}")

    def by_group(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape((group, rows // group, *x.shape[1:])), 0, 1)

    scores = jnp.einsum("gid,gjd->gij", by_group(images), by_group(texts))
    counts = by_group(mask)
    own = jnp.diagonal(scores, axis1=1, axis2=2)
    scores = jnp.where(counts[:, :, None] & counts[:, None, :], scores, APART)
    both = (jax.nn.logsumexp(scores, axis=axis) - own for axis in (2, 1))
    return jnp.swapaxes(0.5 * sum(both), 0, 1).reshape(rows)
