"""Writer of `.safetensors` files, a tensor at a time.

The library's own holds all tensors at once, and since 0.8 makes files that their owner
alone may read.

Source: github.com/huggingface/safetensors, "Format".
"""

import json
import os
import struct
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from models.pretrained.writing.rounding import DTYPES, rounded
from models.pretrained.writing.tensors import Tensor

_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_ALIGNMENT = 8


def write(
    file: Path,
    tensors: Sequence[Tensor],
    *,
    dtype: str,
    wide: Collection[str] = (),
) -> None:
    """Write tensors in this order, synced to the disk.

    Args:
      file: its mode follows the umask.
      tensors: are read one after another.
      dtype: `"float32"`, `"float16"` or `"bfloat16"`.
      wide: roles of tensors that are float32 all the same.

    Raises:
      ValueError: a value is not finite in `dtype`.
      OSError: it cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        kind = _kind(tensor, dtype, wide)
        start, end = end, end + size(tensor, kind)
        header[tensor.name] = {
            "dtype": _KINDS[kind],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            values = rounded(tensor, _kind(tensor, dtype, wide))
            stream.write(values.view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())


def _kind(tensor: Tensor, dtype: str, wide: Collection[str]) -> str:
    return "float32" if tensor.role in wide else dtype


def size(tensor: Tensor, dtype: str) -> int:
    """Return the bytes of a tensor in a file."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * DTYPES[dtype].itemsize
