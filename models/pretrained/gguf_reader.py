"""Reading of `.gguf` files, with the library `gguf`."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class GgufReader:
    """Metadata and tensors of a file; a value is decoded when it is asked for.

    Raises: ValueError when the file is not GGUF, or the library is not installed.
    """

    def __init__(self, file: Path):
        try:
            import gguf
        except ImportError:
            raise ValueError(
                f"{file} needs the library gguf: pip install gguf"
            ) from None
        try:
            self._reader = gguf.GGUFReader(file)
        except (ValueError, IndexError, OSError) as error:
            raise ValueError(f"{file} is not a whole GGUF file: {error}") from error
        self.file = file

    def value(self, name: str, default: Any = None) -> Any:
        """A number, text or list; `default` when there is no such entry."""
        field = self._reader.get_field(name)
        return default if field is None else field.contents()

    def values(self, prefix: str) -> Mapping[str, Any]:
        """All entries whose names begin so, by the rest of their names."""
        names = [name for name in self._reader.fields if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.value(name) for name in names}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By name, the shape of a tensor as the rows of its array count it."""
        return {
            tensor.name: tuple(int(size) for size in reversed(tensor.shape))
            for tensor in self._reader.tensors
        }

    def tensors(self) -> Mapping[str, Callable[[], np.ndarray]]:
        """By name, what reads a tensor: float16 and float32 as stored, else float32."""
        return {
            tensor.name: functools.partial(self._tensor, tensor)
            for tensor in self._reader.tensors
        }

    def _tensor(self, tensor: Any) -> np.ndarray:
        import gguf

        if tensor.data.dtype in (np.float16, np.float32):
            return tensor.data
        try:
            return gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise ValueError(
                f"{self.file}: {tensor.name!r} is stored as "
                f"{tensor.tensor_type.name}, which the library gguf does not read"
            ) from None
