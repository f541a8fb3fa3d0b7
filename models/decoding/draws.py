"""The choice of a next token from logits: the best one, or a draw from the likely."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
    """A distribution to draw tokens from.

    Attributes:
      temperature: 0 takes the most probable token; above, tokens are drawn from
        `softmax(logits / temperature)`, cut off by the next two, in this order.
      top_k: only so many of the most probable tokens stay, and those as probable as the
        last of them. Fan et al. 2018 (arXiv:1805.04833).
      top_p: only the fewest of the most probable tokens stay that have this
        probability together. Holtzman et al. 2020 (arXiv:1904.09751).

    Raises:
      ValueError: a number is out of range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature must not be negative, got {self.temperature}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be positive, got {self.top_k}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0, at most 1, got {self.top_p}")


def kept_logits(
    logits: Float[Array, "b v"],
    *,
    temperature: Float[Array, ""],
    top_k: int | None,
    top_p: Float[Array, ""] | None,
) -> Float[Array, "b v"]:
    """Return `(logits - max) / temperature`; -inf at every token that does not stay."""
    # From the best one down: no temperature, however small, makes inf or NaN of it.
    scores = logits.astype(jnp.float32)
    scores = scores - jnp.max(scores, axis=-1, keepdims=True)
    scores = scores / jnp.maximum(temperature, jnp.finfo(jnp.float32).tiny)
    if top_k is not None and top_k < scores.shape[-1]:
        last = jax.lax.top_k(scores, top_k)[0][:, -1:]
        scores = jnp.where(scores < last, -jnp.inf, scores)
    if top_p is not None:
        scores = jnp.where(_within(scores, top_p), scores, -jnp.inf)
    return scores


def _within(scores: Float[Array, "b v"], top_p: Float[Array, ""]) -> Bool[Array, "b v"]:
    """Return whether the tokens more probable than each have less than `top_p`."""
    order = jnp.argsort(-scores, axis=-1, stable=True)
    ranked = jnp.take_along_axis(jax.nn.softmax(scores, axis=-1), order, axis=-1)
    before = jnp.cumsum(ranked, axis=-1) - ranked
    # The first one stays whatever rounding does, and so do all at a `top_p` of 1.
    stays = ((before < top_p) | (top_p >= 1.0)).at[:, 0].set(True)
    return jnp.put_along_axis(
        jnp.zeros(scores.shape, bool), order, stays, axis=-1, inplace=False
    )


def best(logits: Float[Array, "*b v"]) -> Int[Array, "*b"]:
    """Return the most probable token of each row, the first of equal ones.

    `jnp.argmax` takes three times as long on CPU, where it runs entry by entry; so does
    the least of int32, which XLA takes by windows. Of float32, all are exact to 2²⁴.
    """
    size = logits.shape[-1]
    dtype = jnp.float32 if size <= 2**24 else jnp.int32
    is_best = logits == jnp.max(logits, axis=-1, keepdims=True)
    entries = jax.lax.broadcasted_iota(dtype, logits.shape, logits.ndim - 1)
    first = jnp.min(jnp.where(is_best, entries, size - 1), axis=-1)
    return first.astype(jnp.int32)


_BLOCK = 64


def draw(
    scores: Float[Array, "b v"], keys: Key[Array, " b"], steps: Int[Array, " b"]
) -> Int[Array, " b"]:
    """Return a token a row, from `softmax(scores)`.

    A block of entries is drawn, then an entry of it: two random numbers a row, where
    Gumbel noise takes one an entry, and four times the time of the head's product.

    Args:
      scores: -inf where a token is not to be drawn.
      keys: one a row: what a row draws does not depend on the rows beside it.
      steps: number of each row's draw.
    """
    each = jax.vmap(jax.random.fold_in)(keys, steps)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(each)
    padding = -scores.shape[-1] % _BLOCK
    scores = jnp.pad(scores, ((0, 0), (0, padding)), constant_values=-jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    weights = weights.reshape(weights.shape[0], -1, _BLOCK)
    block = _inverse(jnp.sum(weights, axis=-1), uniform[:, 0])
    within = jnp.take_along_axis(weights, block[:, None, None], axis=1)[:, 0]
    return block * _BLOCK + _inverse(within, uniform[:, 1])


def _inverse(
    weights: Float[Array, "b n"], uniform: Float[Array, " b"]
) -> Int[Array, " b"]:
    """Return the entry of each row at a share of its sum, one whose weight is not 0."""
    sums = jnp.cumsum(weights, axis=-1)
    reached = sums > uniform[:, None] * sums[:, -1:]
    # A sum taken in parts may rise by rounding where the weight is 0.
    reached &= weights > 0
    last = jnp.argmax(weights, axis=-1)  # where rounding leaves none
    return jnp.where(jnp.any(reached, axis=-1), jnp.argmax(reached, axis=-1), last)
