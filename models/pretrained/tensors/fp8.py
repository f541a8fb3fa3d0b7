"""Weights of 8 bits with a scale a block, as DeepSeek-V3 is published."""

import functools
from collections.abc import Callable, Mapping, Sequence

import ml_dtypes
import numpy as np

Read = Callable[[], np.ndarray]
SCALES = "_scale_inv"
"""Ending of the tensor beside each such tensor, `[... row blocks, column blocks]`."""
KINDS = {
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""Types by their names in safetensors, whose library for NumPy reads none of them."""


def dequantized(
    tensors: Mapping[str, Read], dtypes: Mapping[str, np.dtype], block: Sequence[int]
) -> tuple[dict[str, Read], dict[str, np.dtype]]:
    """Return one float32 tensor for each that has scales, and all others.

    Args:
      tensors: of the files, by name.
      dtypes: in which they are read.
      block: rows and columns of a block.

    Raises:
      ValueError: a tensor of 8 bits has no scales.
    """
    tensors, dtypes = dict(tensors), dict(dtypes)
    narrow = KINDS["F8_E4M3"]
    for name in [name for name, dtype in dtypes.items() if dtype == narrow]:
        if name + SCALES not in tensors:
            raise ValueError(f"{name!r} has no {name + SCALES!r}")
        values, scales = tensors[name], tensors.pop(name + SCALES)
        tensors[name] = functools.partial(_scaled, values, scales, name, block)
        dtypes[name] = np.dtype(np.float32)
        del dtypes[name + SCALES]
    return tensors, dtypes


def _scaled(
    read_values: Read, read_scales: Read, name: str, block: Sequence[int]
) -> np.ndarray:
    """Return each value times the scale of its block, `[... rows columns]`, float32.

    Raises:
      ValueError: it is no matrix, or the scales are not one a block.

    Source: DeepSeek-V3 (arXiv:2412.19437), section 3.3.2; its `weight_dequant`.
    """
    values, scales = read_values(), read_scales().astype(np.float32)
    if values.ndim < 2:
        raise ValueError(f"{name} must be a matrix, as its scales are")
    blocks = tuple(-(-n // b) for n, b in zip(values.shape[-2:], block, strict=True))
    if scales.shape != (*values.shape[:-2], *blocks):
        raise ValueError(
            f"{name}{SCALES} must be {[*values.shape[:-2], *blocks]}, one a block of "
            f"{list(block)}, got {list(scales.shape)}"
        )
    scaled = values.astype(np.float32)
    for row in range(blocks[0]):  # never a second array of that size
        rows = slice(row * block[0], (row + 1) * block[0])
        of_columns = np.repeat(scales[..., row, :], block[1], axis=-1)
        scaled[..., rows, :] *= of_columns[..., None, : values.shape[-1]]
    return scaled
