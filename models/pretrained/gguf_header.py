"""Header of a `.gguf` file: metadata, and where the tensors lie.

The reader of the library `gguf` makes two arrays of every token and of every merge: for
the 49,152 tokens of SmolLM2 that took twenty times as long as this.

Source: ggml, docs/gguf.md; versions 2 and 3, little-endian.
"""

import dataclasses
import struct
from typing import Any

import numpy as np

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = dict(enumerate(["B", "b", "H", "h", "I", "i", "f", "?"])) | {
    10: "Q",
    11: "q",
    12: "d",
}
_TEXT, _LIST = 8, 9
_ALIGNMENT = 32  # where `general.alignment` does not say


@dataclasses.dataclass(frozen=True)
class TensorRecord:
    """A tensor's entry in the header.

    Attributes:
      name: in the file.
      shape: in NumPy's order, the reverse of the file's.
      kind: a number of `gguf.GGMLQuantizationType`.
      start: of its bytes in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


@dataclasses.dataclass(frozen=True)
class Header:
    """Metadata by name, and an entry a tensor."""

    entries: dict[str, Any]
    tensors: tuple[TensorRecord, ...]


def parse(content: np.ndarray) -> Header:
    """Parse the header of a file's bytes `[size]` (a memory map: tensors stay unread).

    Raises:
      ValueError: for content that is not GGUF, or ends too early.
    """
    cursor = _Cursor(content.data)
    # Magic, version, counts.
    if cursor.bytes(len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise ValueError(f"version {version}, supported are {_VERSIONS}")
    num_tensors, num_entries = cursor.number("Q"), cursor.number("Q")
    # Metadata, then an entry a tensor.
    entries: dict[str, Any] = {}
    for _ in range(num_entries):
        name = cursor.text()
        if name in entries:
            raise ValueError(f"two entries are named {name!r}")
        entries[name] = cursor.value(cursor.number("I"))
    records = [cursor.tensor() for _ in range(num_tensors)]
    # Tensors start behind the header, at the next multiple of the alignment.
    align = entries.get("general.alignment", _ALIGNMENT)
    if not (isinstance(align, int) and align > 0):
        raise ValueError(f"general.alignment is {align!r}")
    start = -(-cursor.at // align) * align
    tensors = tuple(
        dataclasses.replace(tensor, start=start + tensor.start) for tensor in records
    )
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ValueError("two tensors have one name")
    return Header(entries, tensors)


class _Cursor:
    """Position in the bytes; reading advances it."""

    def __init__(self, content: memoryview):
        self._content = content
        self.at = 0

    def bytes(self, size: int) -> memoryview:
        begin, end = self.at, self.at + size
        if end > len(self._content):
            raise ValueError(f"it ends at byte {len(self._content)} of {end} or more")
        self.at = end
        return self._content[begin:end]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return str(self.bytes(self.number("Q")), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            return self._list(self.number("I"), self.number("Q"))
        return self.number(_code(kind))

    def _list(self, kind: int, count: int) -> list[Any]:
        if kind in (_TEXT, _LIST):
            return [self.value(kind) for _ in range(count)]
        dtype = np.dtype("<" + _code(kind))
        return np.frombuffer(self.bytes(count * dtype.itemsize), dtype).tolist()

    def tensor(self) -> TensorRecord:
        """Read an entry; its start is relative to the first tensor's."""
        name, rank = self.text(), self.number("I")
        sizes = [self.number("Q") for _ in range(rank)]
        kind, start = self.number("I"), self.number("Q")
        return TensorRecord(name, tuple(reversed(sizes)), kind, start)


def _code(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"a value of unknown type {kind}")
    return _NUMBERS[kind]
