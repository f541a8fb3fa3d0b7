"""Columns of a batch: numbers of whole rows, read by masks, weights and losses."""

import dataclasses
import zlib
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from losses.core.loss import TokenWeight
from losses.core.masks import target_mask
from losses.core.outputs import Batch, IncompatibleLoss, Outputs, PerToken


def name_id(name: str) -> int:
    """Return the id of a string in a column: its CRC-32 without the highest bit."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def column(batch: Batch, name: str) -> Shaped[Array, "*b"]:
    """Return a column, `[*b]`, in its own dtype; a `[b]` is repeated along the row.

    Raises:
      IncompatibleLoss: the rows have none of that name.
    """
    if name not in batch:
        there = ", ".join(sorted(batch))
        raise IncompatibleLoss(
            f"the rows have no column {name!r}, they hold {there}; "
            "data.Columns(data, file, fields) joins one"
        )
    values, axes = batch[name], batch["targets"].shape
    wide = values.reshape(values.shape + (1,) * (len(axes) - values.ndim))
    return jnp.broadcast_to(wide, axes)


def row_column(batch: Batch, name: str) -> Float[Array, " b"]:
    """Return a column of whole rows, float32 `[b]`.

    Raises:
      IncompatibleLoss: as `column`.
    """
    values = column(batch, name)
    return values.reshape((values.shape[0], -1))[:, 0].astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnMask:
    """The tokens of `mask` whose column `column` equals a value: a term's `mask`.

    Attributes:
      column: its name, of `data.Columns`.
      equals: an integer, true or false, or a string.
      mask: of a batch, the tokens to choose from.
    """

    column: str
    equals: int | bool | str = True
    mask: Callable[[Batch], Bool[Array, "*b"]] = target_mask

    def __call__(self, batch: Batch) -> Bool[Array, "*b"]:
        values = column(batch, self.column)
        wanted = self.equals
        wanted = name_id(wanted) if isinstance(wanted, str) else int(wanted)
        return self.mask(batch) & (values.astype(jnp.int32) == wanted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnWeight(TokenWeight):
    """The number in a column: a term's `token_weight`.

    Attributes:
      column: its name, of `data.Columns`.
    """

    column: str

    def __call__(self, outputs: Outputs) -> PerToken:
        return column(outputs.batch, self.column).astype(jnp.float32)

    def explain_zero(self) -> str:
        return f"column {self.column!r} is 0 at each of them"
