"""Blocks of 32 integers with a scale in float16: Q8_0 and Q4_0 of `.gguf` files."""

import numpy as np

from models.pretrained.writing.tensors import Tensor

BLOCK = 32
LARGEST = {"Q4_0": 7, "Q8_0": 127}
"""By kind, narrow ones first: the largest number."""
SIZES = {"Q4_0": 2 + BLOCK // 2, "Q8_0": 2 + BLOCK}
"""Bytes of a block."""
_STEP = 2.0**-24  # all numbers of float16 are multiples of it


def kind_of(tensor: Tensor) -> str | None:
    """Return the narrowest kind that holds a tensor as it is; None if none does."""
    if len(tensor.shape) < 2 or tensor.shape[-1] % BLOCK:
        return None
    blocks = tensor.read().astype(np.float32).reshape(-1, BLOCK)
    for kind in LARGEST:
        if _parts(blocks, LARGEST[kind]) is not None:
            return kind
    return None


def packed(tensor: Tensor, kind: str) -> np.ndarray:
    """Return the bytes of a tensor that `kind` holds, `[blocks bytes]`.

    Source: `block_q8_0` and `block_q4_0` of ggml (`ggml-common.h`): the scale, then
    bytes, or halves of bytes, the first half of a block in the lower ones.
    """
    blocks = tensor.read().astype(np.float32).reshape(-1, BLOCK)
    parts = _parts(blocks, LARGEST[kind])
    if parts is None:
        raise ValueError(f"{tensor.name} is not on the grid of {kind}")
    scales, numbers = parts
    head = scales[:, None].view(np.uint8)
    if kind == "Q8_0":
        return np.concatenate([head, numbers.view(np.uint8)], axis=1)
    raised = (numbers + 8).astype(np.uint8)
    low, high = raised[:, : BLOCK // 2], raised[:, BLOCK // 2 :]
    return np.concatenate([head, low | high << 4], axis=1)


def _parts(blocks: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return `s [blocks]` in float16 and `q [blocks 32]` with `s q` exactly `blocks`.

    s is a divisor of the greatest common one that float16 holds: most often itself.
    """
    steps = blocks.astype(np.float64) / _STEP
    whole = np.rint(steps)
    if not np.isfinite(steps).all() or np.any(whole != steps):
        return None
    divisors = np.gcd.reduce(np.abs(whole).astype(np.int64), axis=1)
    most = np.abs(whole).max(axis=1)
    scales = np.zeros(len(blocks), np.float16)
    left = divisors > 0
    for part in range(1, largest + 1):
        if not left.any():
            break
        scale = divisors * _STEP / part
        narrow = scale.astype(np.float16)
        fits = left & (narrow == scale) & (most * part <= largest * divisors)
        scales[fits] = narrow[fits]
        left &= ~fits & (most * (part + 1) <= largest * divisors)
    wide = scales[:, None].astype(np.float32)
    ratios = np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide > 0)
    numbers = np.rint(ratios).astype(np.int8)
    exact = wide * numbers == blocks
    return (scales, numbers) if exact.all() else None
