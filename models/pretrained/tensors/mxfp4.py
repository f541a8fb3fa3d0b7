"""Weights of 4 bits in blocks of 32 with one scale (MXFP4), as gpt-oss is published."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

Read = Callable[[], np.ndarray]
BLOCKS, SCALES = "_blocks", "_scales"
"""Endings of the two tensors that stand for one, `[... rows blocks 16]` bytes of two
numbers and `[... rows blocks]` exponents."""

# By the three lower bits: E2M1, of which the fourth is the sign.
_SIZES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_VALUES = np.array([*_SIZES, *(-size for size in _SIZES)], np.float32)
_BIAS = 127


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A tensor `[... inputs outputs]` that may be packed, row by row of its outputs.

    Attributes:
      whole: end of its name.
    """

    whole: str


def unpacked(blocks: Read, scales: Read, name: str) -> np.ndarray:
    """Return `2^(scale - 127) · value`, `[... inputs outputs]`, exact in bfloat16.

    The lower half of a byte comes first.

    Raises:
      ValueError: the two do not fit.

    Source: Open Compute Project, Microscaling Formats (MX) 1.0, section 5.3.3; the
    layout is that of transformers 5.24.0.
    """
    packed, exponents = blocks(), scales()
    if packed.shape != (*exponents.shape, 16):
        raise ValueError(
            f"{name}{BLOCKS} must be {[*exponents.shape, 16]}, as {name}{SCALES} "
            f"has it, got {list(packed.shape)}"
        )
    halves = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    values = _VALUES[halves.reshape(*exponents.shape, 32)]
    values = np.ldexp(values, exponents.astype(np.int32)[..., None] - _BIAS)
    rows = values.reshape(*exponents.shape[:-1], -1).astype(ml_dtypes.bfloat16)
    return np.swapaxes(rows, -1, -2)


def unpack(
    tensors: Mapping[str, Read], dtypes: Mapping[str, np.dtype], rule: Packed
) -> tuple[dict[str, Read], dict[str, np.dtype]]:
    """Return one tensor for each two of `tensors` that `rule` names.

    Raises:
      ValueError: there is one of the two alone.
    """
    tensors, dtypes = dict(tensors), dict(dtypes)
    for name in [name for name in tensors if name.endswith(rule.whole + BLOCKS)]:
        to = name.removesuffix(BLOCKS)
        if to + SCALES not in tensors:
            raise ValueError(f"{name!r} has no {to + SCALES!r}")
        blocks, scales = tensors.pop(name), tensors.pop(to + SCALES)
        tensors[to] = functools.partial(unpacked, blocks, scales, to)
        dtypes[to] = np.dtype(ml_dtypes.bfloat16)
        del dtypes[name], dtypes[to + SCALES]
    return tensors, dtypes
