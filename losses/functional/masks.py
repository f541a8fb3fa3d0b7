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


def where_counted(
    values: Float[Array, "..."], mask: Bool[Array, "*b"] | None
) -> Float[Array, "..."]:
    """Return the values, and 0 at tokens that do not count.

    So what is there, NaN of an ignored target say, is in no sum and has no gradient.

    Args:
      values: `[*b ...]`, an array a token or row.
      mask: those that count; None for all.

    Raises:
      ValueError: as `counted`.
    """
    if mask is None:
        return values
    check_mask("mask", mask, values.shape[: mask.ndim])
    wide = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return jnp.where(wide, values, jnp.zeros((), values.dtype))


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
