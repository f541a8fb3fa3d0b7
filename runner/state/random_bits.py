"""Random bits of any array, computed piece by piece by one small compiled program.

Element `i` of what JAX draws from a key is `a ^ b` of `(a, b) = Threefry2x32(key, i)`,
cut to the width asked for: it depends on the key and on `i` alone (where
`jax_threefry_partitionable` is set). So one program of a fixed size serves arrays of
all shapes, and each device is handed its own part.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3
(doi:10.1145/2063384.2063405).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

CHUNK = 2**16
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def by_index(dtype: jax.typing.DTypeLike, bit_width: int) -> bool:
    """Return whether bits from keys of this type depend on key and index alone."""
    config: Any = jax.config
    partitionable = config.jax_threefry_partitionable
    return partitionable and str(dtype) == "key<fry>" and bit_width <= 32


def sharded(
    keys: jax.Array, draw: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.Array:
    """Return the bits that `jax.random` draws from keys, straight in their sharding.

    Args:
      keys: `[*k]`, of which `by_index` holds.
      draw: shape `[*k, *s]`, unsigned dtype of at most 32 bits.
      sharding: of the result.
    """
    words = np.asarray(jax.random.key_data(keys)).reshape(-1, 2)
    boxes: dict[tuple, np.ndarray] = {}

    def part(slices: Any) -> np.ndarray:
        box = tuple(s.indices(n)[:2] for s, n in zip(slices, draw.shape, strict=True))
        if box not in boxes:
            boxes[box] = _part(words, draw.shape, box).astype(draw.dtype)
        return boxes[box]

    return jax.make_array_from_callback(draw.shape, sharding, part)


def _part(
    words: np.ndarray, shape: Sequence[int], box: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Return the bits of a box of an array, 32 of each element.

    Args:
      words: `[keys, 2]`.
      shape: of the array, of which each key draws an equal share.
      box: first and last + 1 along each axis.
    """
    sizes = tuple(last - first for first, last in box)
    bits = np.empty(math.prod(sizes), np.uint32)
    share = math.prod(shape) // len(words)
    for first in range(0, bits.size, CHUNK):
        index = np.arange(first, min(first + CHUNK, bits.size))
        if sizes != tuple(shape):
            inside = np.unravel_index(index, sizes)
            starts = (start for start, _ in box)
            index = np.ravel_multi_index(
                [i + start for i, start in zip(inside, starts, strict=True)], shape
            )
        owner, index = (0, index) if len(words) == 1 else np.divmod(index, share)
        bits[first : first + index.size] = _chunk(words[owner], index)
    return bits.reshape(sizes)


def _chunk(words: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the bits at `index [n]` of keys `[n, 2]` or `[2]`, n at most CHUNK."""
    halves = np.zeros((CHUNK, 2), "<u4")
    halves[: index.size] = index.astype("<u8").view("<u4").reshape(-1, 2)
    keys = np.zeros((CHUNK, 2), np.uint32)
    keys[: index.size] = words
    return np.asarray(_threefry(keys, halves))[: index.size]


@jax.jit
def _threefry(keys: jax.Array, index: jax.Array) -> jax.Array:
    """Return `a ^ b` of `(a, b) = Threefry2x32(keys, index)`, as `pair`."""
    a, b = pair(keys, index)
    return a ^ b


def pair(keys: Any, index: Any) -> tuple[Any, Any]:
    """Return `(a, b) = Threefry2x32(keys, index)`, 20 rounds, of JAX or NumPy.

    Args:
      keys: `[n, 2]`.
      index: `[n, 2]`, the low half first.
    """
    schedule = keys[:, 0], keys[:, 1], keys[:, 0] ^ keys[:, 1] ^ _PARITY
    a, b = index[:, 1] + schedule[0], index[:, 0] + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            a = a + b
            b = a ^ (b << np.uint32(rotation) | b >> np.uint32(32 - rotation))
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return a, b
