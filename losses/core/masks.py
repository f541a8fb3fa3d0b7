"""Masks: the tokens of a batch that a term counts."""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from losses.core.outputs import Batch, IncompatibleLoss

_FACTORS = "1 = counts; factors of the values are the term's token_weight"


def target_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the tokens that have a target.

    Raises:
      IncompatibleLoss: `batch["mask"]` holds fractions.
    """
    mask = batch["mask"]
    if jnp.issubdtype(mask.dtype, jnp.inexact):
        raise IncompatibleLoss(
            f'batch["mask"] must be bool, got {mask.dtype} ({_FACTORS})'
        )
    return mask.astype(bool)


def token_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the tokens that are not padding."""
    return batch["segment_ids"] > 0


def check_mask(name: str, mask: Array, batch: Batch) -> None:
    """Refuse a mask of the term `name` that is no bool for each token.

    Raises:
      IncompatibleLoss: it has another dtype, or not the shape of the targets.
    """
    if mask.dtype != bool:
        raise IncompatibleLoss(
            f"mask of {name!r} must be bool, got {mask.dtype} ({_FACTORS})"
        )
    shape = batch["targets"].shape if "targets" in batch else mask.shape
    if mask.shape != shape:
        raise IncompatibleLoss(
            f"mask of {name!r} must have the shape of the targets, {shape}, "
            f"got {mask.shape}"
        )
