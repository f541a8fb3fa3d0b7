"""Masks of the functions over the tokens of a batch."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

FACTORS = "1 = counts; factors of the values are the term's token_weight"


def counted(
    mask: Bool[Array, "*b"] | None, tokens: tuple[int, ...]
) -> Float[Array, "*b"]:
    """Return 1 where a token counts and 0 elsewhere, float32.

    Args:
      mask: the tokens that count; None for all.
      tokens: shape of the tokens, `[*b]`.

    Raises:
      ValueError: the mask is no bool, or has not the shape of the tokens.
    """
    if mask is None:
        return jnp.ones(tokens, jnp.float32)
    check_mask("mask", mask, tokens)
    return mask.astype(jnp.float32)


def check_mask(name: str, mask: Array, tokens: tuple[int, ...]) -> None:
    """Refuse a mask that is no bool for each token.

    Raises:
      ValueError: it has another dtype or shape; the message names it as `name`.
    """
    if mask.dtype != bool:
        raise ValueError(f"{name} must be bool, got {mask.dtype} ({FACTORS})")
    if mask.shape != tokens:
        raise ValueError(
            f"{name} must have the shape of the tokens, {tokens}, got {mask.shape}"
        )
