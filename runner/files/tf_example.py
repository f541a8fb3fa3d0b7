"""`tf.train.Example` as arrays by name, without TensorFlow.

    Example  { Features features = 1; }
    Features { map<string, Feature> feature = 1; }
    Feature  { oneof { BytesList = 1; FloatList = 2; Int64List = 3; } }

Lists are packed: one field of all numbers.
"""

from collections.abc import Iterator, Mapping

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_STRINGS, _FLOATS, _INTEGERS = 1, 2, 3
_LONGEST = 10  # bytes of an integer of 64 bits


def decode(record: bytes) -> dict[str, np.ndarray]:
    """Return the lists of numbers of an example; lists of bytes are left out.

    Raises:
      ValueError: It is no example.
    """
    return {
        name: _numbers(kind, content)
        for name, kind, content in _features(record)
        if kind in (_FLOATS, _INTEGERS)
    }


def decode_bytes(record: bytes) -> dict[str, list[bytes]]:
    """Return the lists of bytes of an example; lists of numbers are left out.

    Raises:
      ValueError: It is no example.
    """
    return {
        name: [value for _, value in _fields(content, "no list of bytes")]
        for name, kind, content in _features(record)
        if kind == _STRINGS
    }


def _features(record: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield name, kind and content of each list."""
    for _, content in _fields(record, "no tf.train.Example"):
        for _, entry in _fields(content, "no tf.train.Features"):
            parts = dict(_fields(entry, "no entry of tf.train.Features"))
            if set(parts) != {1, 2}:
                raise ValueError("no tf.train.Example: a feature without a name")
            for kind, value in _fields(parts[2], "no tf.train.Feature"):
                yield parts[1].decode("utf-8", "replace"), kind, value


def encode(features: Mapping[str, np.ndarray]) -> bytes:
    """Return an example of flat lists of numbers; floats as float32."""
    content = b""
    for name, array in features.items():
        if np.issubdtype(array.dtype, np.floating):
            kind, packed = _FLOATS, array.astype("<f4").tobytes()
        else:
            kind, packed = _INTEGERS, _packed(array)
        feature = _field(kind, _field(1, packed))
        content += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, content)


def _field(number: int, content: bytes) -> bytes:
    size = _packed(np.array([len(content)]))
    return bytes([number << 3 | _BYTES]) + size + content


def _packed(values: np.ndarray) -> bytes:
    """Integers laid end to end, the inverse of `_varints`."""
    bits = values.astype(np.int64).view(np.uint64)[:, None]
    groups = bits >> (np.uint64(7) * np.arange(_LONGEST, dtype=np.uint64))
    sizes = np.maximum((groups > 0).sum(-1), 1)[:, None]
    place = np.arange(_LONGEST)
    more = np.where(place + 1 < sizes, np.uint64(128), np.uint64(0))
    coded = ((groups & np.uint64(127)) | more).astype(np.uint8)
    return coded[place < sizes].tobytes()


def _numbers(kind: int, content: bytes) -> np.ndarray:
    packed = b"".join(x for _, x in _fields(content, "no list of numbers"))
    if kind == _INTEGERS:
        return _varints(packed)
    if len(packed) % 4:
        raise ValueError("a list of floats is cut")
    return np.frombuffer(packed, "<f4")


def _fields(content: bytes, otherwise: str) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field that has a length."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at, otherwise)
        if tag & 7 != _BYTES:
            raise ValueError(otherwise)
        size, at = _varint(content, at, otherwise)
        if at + size > len(content):
            raise ValueError(f"{otherwise}: it is cut")
        yield tag >> 3, content[at : at + size]
        at += size


def _varint(content: bytes, at: int, otherwise: str) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 7 * _LONGEST:
        byte, at = content[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError(otherwise)


def _varints(packed: bytes) -> np.ndarray:
    """Int64 of integers laid end to end, seven bits a byte, the lowest first."""
    raw = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(raw < 128) + 1
    if len(raw) and (not len(ends) or ends[-1] != len(raw)):
        raise ValueError("a list of integers is cut")
    sizes = np.diff(ends, prepend=0)
    if len(sizes) and sizes.max() > _LONGEST:
        raise ValueError("an integer of more than 64 bits")
    values = np.zeros(len(sizes), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        longer = sizes > place
        byte = raw[(ends - sizes)[longer] + place].astype(np.uint64) & np.uint64(127)
        values[longer] |= byte << np.uint64(7 * place)
    return values.view(np.int64)
