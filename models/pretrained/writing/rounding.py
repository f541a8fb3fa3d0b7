"""Tensors in the type of a file, rounded to nearest, ties to even."""

import ml_dtypes
import numpy as np

from models.pretrained.writing.tensors import Tensor

DTYPES = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype("<f2"),
}
"""Types that a file may have, by name."""


def rounded(tensor: Tensor, dtype: str) -> np.ndarray:
    """Return a tensor's values, contiguous, in a type of `DTYPES`.

    Raises:
      ValueError: one is not finite there.
    """
    values = tensor.read()
    with np.errstate(over="ignore"):  # said below, with the tensor's name
        narrow = np.ascontiguousarray(values, DTYPES[dtype])
    if not np.isfinite(narrow.astype(np.float32)).all():
        finite = np.isfinite(values.astype(np.float32)).all()
        why = f"is too large for {dtype}" if finite else "is not finite"
        raise ValueError(f"a value of {tensor.name} {why}")
    return narrow
