"""Reader of `.gguf` files; the library `gguf` decodes quantized tensors."""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from models.pretrained import gguf_header
from models.pretrained.gguf_header import TensorRecord

_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}


class GGUFReader:
    """Metadata and tensors of a file; a tensor is decoded when it is asked for.

    Raises:
      ValueError: when the file is not GGUF.
    """

    def __init__(self, file: Path):
        self.file = file
        try:
            self._content = np.memmap(file, np.uint8, mode="r")
            self._header = gguf_header.parse(self._content)
        except (ValueError, OSError) as error:
            raise self._broken(error) from error

    def value(self, name: str, default: Any = None) -> Any:
        """Return a number, text or list; `default` when there is no such entry."""
        return self._header.entries.get(name, default)

    def values(self, prefix: str) -> Mapping[str, Any]:
        """Return entries that begin with `prefix`, by the rest of their names."""
        return {
            name.removeprefix(prefix): value
            for name, value in self._header.entries.items()
            if name.startswith(prefix)
        }

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor, by name, in NumPy's order."""
        return {tensor.name: tensor.shape for tensor in self._header.tensors}

    def tensors(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """Return a function a tensor, by name, that reads it.

        Floats come as stored, quantized tensors as float32.

        Raises:
          ValueError: when the file ends before a tensor does, or the library is not
            installed.
        """
        return {
            tensor.name: functools.partial(self._decode, tensor, self._bytes(tensor))
            for tensor in self._header.tensors
        }

    def dtypes(self) -> Mapping[str, np.dtype]:
        """Return the type that each tensor is read in, by name."""
        return {
            tensor.name: np.dtype(_FLOATS.get(self._kind(tensor), "<f4"))
            for tensor in self._header.tensors
        }

    def _kind(self, tensor: TensorRecord) -> str:
        """Return the name of the type it is stored in, as in `Q8_0`."""
        try:
            return self._library().GGMLQuantizationType(tensor.kind).name
        except ValueError as error:
            raise self._broken(error) from error

    def _bytes(self, tensor: TensorRecord) -> np.ndarray:
        """Return a tensor's bytes, uint8; the last axis counts bytes."""
        gguf = self._library()
        try:
            kind = gguf.GGMLQuantizationType(tensor.kind)
            shape = gguf.quant_shape_to_byte_shape(tensor.shape, kind)
        except (ValueError, IndexError) as error:  # the latter for no axis at all
            raise self._broken(error) from error
        end = tensor.start + math.prod(shape)
        if end > len(self._content):
            raise self._broken(f"it ends before {tensor.name!r} does")
        return self._content[tensor.start : end].reshape(shape)

    def _decode(self, tensor: TensorRecord, content: np.ndarray) -> np.ndarray:
        gguf = self._library()
        kind = gguf.GGMLQuantizationType(tensor.kind)
        if kind.name in _FLOATS:
            return content.view(_FLOATS[kind.name])
        try:
            return gguf.dequantize(content, kind)
        except NotImplementedError:
            raise ValueError(
                f"{self.file}: {tensor.name!r} is stored as {kind.name}, which the "
                "library gguf does not read"
            ) from None

    def _library(self) -> Any:
        try:
            import gguf
        except ImportError:
            raise ValueError(
                f"{self.file} needs the library gguf: pip install gguf"
            ) from None
        return gguf

    def _broken(self, why: object) -> ValueError:
        return ValueError(f"{self.file} is not a whole GGUF file: {why}")
