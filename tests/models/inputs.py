"""Rows of tokens, meshes of virtual devices, and rotations by complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

VOCAB = 13
AXES = ("data", "fsdp", "tensor", "expert")


def mesh_of(data=1, fsdp=1, tensor=1, expert=1) -> jax.sharding.Mesh:
    """A mesh of the first devices, of these sizes along `AXES`."""
    shape = (data, fsdp, tensor, expert)
    devices = jax.devices()[: int(np.prod(shape))]
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 4, devices=devices)


def batch(segments: list[list[int]], *, seed: int = 0) -> dict[str, jax.Array]:
    """Random tokens in rows packed with documents of the given lengths.

    What a row leaves over of the longest row is padding: segment 0, mask false.
    """
    length = max(sum(row) for row in segments)
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, VOCAB, (len(segments), length), np.int32)
    targets = draw.integers(1, VOCAB, (len(segments), length), np.int32)
    ids = np.zeros((len(segments), length), np.int32)
    positions = np.zeros((len(segments), length), np.int32)
    for row, lengths in enumerate(segments):
        start = 0
        for segment, size in enumerate(lengths):
            ids[row, start : start + size] = segment + 1
            positions[row, start : start + size] = np.arange(size)
            start += size
        positions[row, start:] = np.arange(length - start)
    arrays = {
        "tokens": np.where(ids > 0, tokens, 0),
        "targets": np.where(ids > 0, targets, 0),
        "mask": ids > 0,
        "segment_ids": ids,
        "positions": positions,
        "index": np.arange(len(segments), dtype=np.int32),
    }
    return {name: jnp.asarray(value) for name, value in arrays.items()}


def reference_rotation(x, positions, base, layout):
    """Each pair of features as a complex number, times exp(i position frequency)."""
    half = x.shape[-1] // 2
    frequency = base ** (-np.arange(half) / half)
    turn = np.exp(1j * positions[..., None, None] * frequency)
    if layout == "split":
        z = (x[..., :half] + 1j * x[..., half:]) * turn
        return np.concatenate([z.real, z.imag], axis=-1)
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)
