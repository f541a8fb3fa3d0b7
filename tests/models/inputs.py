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


def reference_attention(
    query, key, value, cotangent, allowed, *, soft_cap=None, sinks=None
):
    """Attention and its gradients in float64: `(mixed, (d_q, d_k, d_v, d_sinks))`.

    `query [b t heads head_dim]`, scaled; `allowed [b t t]`; each key serves
    `heads / kv_heads` queries in turn.
    """
    q, k, v, d = (
        np.moveaxis(np.asarray(x, np.float64), 2, 1)
        for x in (query, key, value, cotangent)
    )
    groups = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, groups, axis=1) for x in (k, v))
    scores = q @ np.swapaxes(k, 2, 3)
    slope = 1.0
    if soft_cap is not None:
        scores = soft_cap * np.tanh(scores / soft_cap)
        slope = 1 - (scores / soft_cap) ** 2
    weights = np.exp(scores) * np.asarray(allowed)[:, None]
    sink = np.zeros(q.shape[1]) if sinks is None else np.exp(np.float64(sinks))
    total = weights.sum(-1, keepdims=True) + sink[None, :, None, None]
    weights = weights / total
    mixed = weights @ v
    own = (d * mixed).sum(-1, keepdims=True)
    d_scores = weights * (d @ np.swapaxes(v, 2, 3) - own) * slope
    d_k, d_v = (
        x.reshape(x.shape[0], -1, groups, *x.shape[2:]).sum(2)
        for x in (
            np.swapaxes(d_scores, 2, 3) @ q,
            np.swapaxes(weights, 2, 3) @ d,
        )
    )
    d_sinks = -(sink[None, :, None, None] / total * own).sum((0, 2, 3))
    by_token = [np.moveaxis(x, 1, 2) for x in (mixed, d_scores @ k, d_k, d_v)]
    return by_token[0], (*by_token[1:], d_sinks)
