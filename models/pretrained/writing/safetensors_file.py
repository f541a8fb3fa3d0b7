"""Writer of `.safetensors` files, a tensor at a time.

The library's own holds all tensors at once, and since 0.8 makes files that their owner
alone may read.

Source: github.com/huggingface/safetensors, "Format".
"""

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.pretrained.writing.rounding import DTYPES, rounded
from models.pretrained.writing.tensors import Tensor

_KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_ALIGNMENT = 8


def write(file: Path, tensors: Sequence[Tensor], *, dtype: str) -> None:
    """Write tensors in this order, synced to the disk.

    Args:
      file: its mode follows the umask.
      tensors: are read one after another.
      dtype: `"float32"`, `"float16"` or `"bfloat16"`.

    Raises:
      ValueError: a value is not finite in `dtype`.
      OSError: it cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + size(tensor, dtype)
        header[tensor.name] = {
            "dtype": _KINDS[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            values = rounded(tensor, dtype)
            stream.write(values.view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())


def size(tensor: Tensor, dtype: str) -> int:
    """Return the bytes of a tensor in a file."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * DTYPES[dtype].itemsize
