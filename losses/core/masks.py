"""Masks: the tokens of a batch that a term counts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool

from losses.core.outputs import Batch, IncompatibleLoss
from losses.functional.masks import FACTORS


def target_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the tokens that have a target.

    Raises:
      IncompatibleLoss: `batch["mask"]` is not bool.
    """
    mask = batch["mask"]
    if mask.dtype != bool:
        raise IncompatibleLoss(
            f'batch["mask"] must be bool, got {mask.dtype} ({FACTORS})'
        )
    return mask


def token_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the tokens that are not padding."""
    return batch["segment_ids"] > 0


def own_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the targets in rows that the student wrote (`data.OnPolicy`).

    There are none in other data, such as that of an evaluation.
    """
    return target_mask(batch) & _own(batch)


def data_mask(batch: Batch) -> Bool[Array, "*b"]:
    """Return a mask of the targets in rows of the data: all that are not `own_mask`."""
    return target_mask(batch) & ~_own(batch)


def _own(batch: Batch) -> Bool[Array, "*b"]:
    mask = target_mask(batch)
    own = batch.get("own")
    if own is None:
        return jnp.zeros_like(mask)
    return own.reshape(own.shape + (1,) * (mask.ndim - own.ndim))


Mask = Callable[[Batch], Bool[Array, "*b"]]


@dataclasses.dataclass(frozen=True)
class TaughtMask:
    """A mask of the tokens of another one that the teacher scored."""

    mask: Mask

    def __call__(self, batch: Batch) -> Bool[Array, "*b"]:
        """Return which tokens of a batch count."""
        return self.mask(batch) & batch["teacher/known"]


class Masked(Protocol):
    """A term, as far as it counts tokens."""

    @property
    def name(self) -> str: ...

    @property
    def mask(self) -> Mask | None: ...


def token_masks(terms: Sequence[Masked], batch: Batch) -> dict[str, Bool[Array, "*b"]]:
    """Return, by term, the tokens of a batch that it counts.

    Raises:
      IncompatibleLoss: a mask is not bool, or has another shape than the targets.
    """
    masks, by_function = {}, {}
    for term in terms:
        assert term.mask is not None  # its loss is built
        if term.mask not in by_function:
            by_function[term.mask] = term.mask(batch)
            _check(term.name, by_function[term.mask], batch)
        masks[term.name] = by_function[term.mask]
    return masks


def _check(name: str, mask: Array, batch: Batch) -> None:
    """Refuse a mask of the term `name` that is no bool for each token.

    Raises:
      IncompatibleLoss: it has another dtype, or not the shape of the targets.
    """
    if mask.dtype != bool:
        raise IncompatibleLoss(
            f"mask of {name!r} must be bool, got {mask.dtype} ({FACTORS})"
        )
    shape = batch["targets"].shape if "targets" in batch else mask.shape
    if mask.shape != shape:
        raise IncompatibleLoss(
            f"mask of {name!r} must have the shape of the targets, {shape}, "
            f"got {mask.shape}"
        )
