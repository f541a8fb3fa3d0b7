"""Functions of a row of data: its binding, its hits, its default arrays."""

import hashlib
from collections.abc import Mapping

import numpy as np


def binding(row: Mapping[str, np.ndarray]) -> bytes:
    """16 bytes that differ when a row's tokens, segment ids or positions do."""
    hashed = hashlib.blake2b(digest_size=16)
    for name in ("tokens", "segment_ids", "positions"):
        hashed.update(np.ascontiguousarray(row[name], "<i4").data)
    return hashed.digest()


def hits(ids: np.ndarray | None, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`[*b]` bool: positions that count and whose target is among `ids` `[*b k]`."""
    if ids is None:
        return mask.astype(bool)
    among = np.zeros(mask.size, bool)
    among[np.flatnonzero(ids == targets[..., None]) // ids.shape[-1]] = True
    return among.reshape(mask.shape) & mask.astype(bool)


def best_first(drops: np.ndarray) -> bool:
    """Return true if `drops` `[*b k]` begin with 0 and never fall.

    Compared end to end, which is faster: they fall where a token begins, and only
    there, unless the token before ends with 0.
    """
    flat = drops.reshape(-1)
    falls = np.count_nonzero(flat[1:] < flat[:-1])
    first, last = drops[..., 0].reshape(-1), drops[..., -1].reshape(-1)
    return not first.any() and falls == np.count_nonzero(last[:-1])


def next_tokens(tokens: np.ndarray) -> np.ndarray:
    """`tokens` `[*b T]` one place on, 0 after the last."""
    return np.concatenate([tokens[..., 1:], np.zeros_like(tokens[..., :1])], -1)


def default_positions(segment_ids: np.ndarray) -> np.ndarray:
    """Places since a segment's first, 0 in segment 0; `[*b T]` int32."""
    place = np.arange(segment_ids.shape[-1], dtype=np.int32)
    place = np.broadcast_to(place, segment_ids.shape)
    new = np.diff(segment_ids, axis=-1, prepend=segment_ids[..., :1] - 1) != 0
    first = np.maximum.accumulate(np.where(new, place, np.int32(0)), axis=-1)
    return np.where(segment_ids > 0, place - first, np.int32(0))
