"""Images beside all texts of their batch: CLIP's loss, divergences of views."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.functional.in_batch.negatives import Rows, Scalar, There, info_nce
from losses.functional.in_batch.pairs import BLOCK

_APART = -1e30


def image_text_contrast(
    images: Rows, texts: Rows, there: There = None, *, temperature: float = 1.0
) -> Scalar:
    """Return `-½ mean_i (log softmax_j(s_ij)_i + log softmax_j(s_ji)_i)`, nats.

    `s_ij = <image_i, text_j> / T`. A block of rows is compared with a block at a time.

    Source: Radford et al. 2021, CLIP (arXiv:2103.00020), figure 3.

    Args:
      images: row i beside text i.
      texts: as many.
      there: the rows that count.
      temperature: T.
    """
    both = (images, texts), (texts, images)
    values = (info_nce(*x, there, temperature=temperature) for x in both)
    return 0.5 * sum(values, jnp.float32(0.0))


def image_text_kl(
    first: Rows, second: Rows, texts: Float[Array, "n d"], there: There = None
) -> Scalar:
    """Return `mean_i KL(softmax_j <a_i, t_j> ‖ softmax_j <b_i, t_j>)`, nats.

    Both sides have a gradient. A block of rows has its products with all texts at a
    time, in the gradient again.

    Source: AdvFLYP (arXiv:2604.11576), L_logit.

    Args:
      first: images a.
      second: images b.
      texts: t, the scale among them.
      there: the rows that count, and texts of others.
    """
    counts = jnp.ones(len(first), bool) if there is None else there
    a, b, t = (
        jnp.where(counts[:, None], x.astype(jnp.float32), 0.0)
        for x in (first, second, texts)
    )

    def of_row(pair: tuple[Array, Array]) -> Array:
        scores = (jnp.where(counts, t @ x, _APART) for x in pair)
        log_p, log_q = (jax.nn.log_softmax(x) for x in scores)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q))

    values = jax.lax.map(jax.checkpoint(of_row), (a, b), batch_size=BLOCK)
    count = jnp.sum(counts, dtype=jnp.float32)
    return jnp.sum(jnp.where(counts, values, 0.0)) / jnp.maximum(count, 1.0)
