"""Rotary position embedding, in the two layouts that published weights use."""

import functools
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from models import rope_scaling, sharding

LAYOUTS = ("split", "interleaved")
_PARTS, _FEW = 8, 256


class Scaling(Protocol):
    """Context extension by changed frequencies: see `models.rope_scaling`.

    One that has an `amplitude` multiplies cosines and sines by it, too.
    """

    def __call__(self, frequencies: jax.Array) -> jax.Array:
        """Return the changed frequencies.

        Args:
          frequencies: `[head_dim/2]`, radians per position, fastest first.
        """
        ...


def check_width(rope_dim: int | None, head_dim: int) -> int:
    """Return the features of a head that are rotated; None is all.

    Raises:
      ValueError: it is odd, or not from 2 to `head_dim`.
    """
    if rope_dim is None:
        return head_dim
    if rope_dim % 2 or not 2 <= rope_dim <= head_dim:
        raise ValueError(
            f"rope_dim must be even and from 2 to head_dim ({head_dim}), got {rope_dim}"
        )
    return rope_dim


def angles(
    positions: jax.Array,
    head_dim: int,
    *,
    base: float,
    scaling: Scaling | None = None,
    lengths: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of `position * base**(-2i / head_dim)`, each `[*b head_dim/2]`.

    Args:
      positions: `[*b]`, counted from the start of the document.
      head_dim: features of a head.
      base: of the geometric series of frequencies.
      scaling: applied to the frequencies `base**(-2i / head_dim)`; None is none.
      lengths: `[*b]` without its last axis, of the one document that each row is a part
        of; None where rows hold whole documents. `LongRoPE` alone reads it.

    Source: Su et al. 2021 (arXiv:2104.09864), equation 15.
    """
    tables = functools.partial(
        _tables, head_dim=head_dim, base=base, scaling=scaling, lengths=lengths
    )
    many = positions.size >= _FEW and positions.shape[-1] % _PARTS == 0
    by_rows = isinstance(scaling, rope_scaling.LongRoPE)  # of whole documents
    if (
        many
        and not by_rows
        and sharding.on_one_device()
        and sharding.platform() == "cpu"
    ):
        return _in_parts(tables, positions)
    return tables(positions)


def _in_parts(
    tables: Callable[[jax.Array], tuple[jax.Array, jax.Array]], positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return `tables(positions)` by a loop over parts of the rows.

    On a CPU, XLA makes what stands in no loop a part of each operation that reads it:
    cosines and sines would be computed for each layer, head, query and key, and again
    for their gradients.
    """
    parts = positions.reshape(*positions.shape[:-1], _PARTS, -1)
    by_part = jax.lax.map(tables, jnp.moveaxis(parts, -2, 0))
    cos, sin = (
        jnp.moveaxis(x, 0, -3).reshape(*positions.shape, x.shape[-1]) for x in by_part
    )
    return cos, sin


def _tables(
    positions: jax.Array,
    *,
    head_dim: int,
    base: float,
    scaling: Scaling | None,
    lengths: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    frequencies = jnp.power(jnp.float32(base), -exponents)
    places = positions.astype(jnp.float32)
    if isinstance(scaling, rope_scaling.LongRoPE):
        angle = places[..., None] * scaling.by_token(frequencies, positions, lengths)
    else:
        frequencies = frequencies if scaling is None else scaling(frequencies)
        angle = jnp.einsum("...,f->...f", places, frequencies)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if scaling is None:
        return cos, sin
    amplitude = rope_scaling.amplitude(scaling)
    return (cos, sin) if amplitude == 1.0 else (cos * amplitude, sin * amplitude)


def rotate(
    x: jax.Array, rotation: tuple[jax.Array, jax.Array], *, layout: str
) -> jax.Array:
    """Rotate each pair of features of `x [*b heads head_dim]` by its angle, in float32.

    Args:
      x: queries or keys.
      rotation: cosine and sine tables of `angles`; features beyond twice their width
        stay as they are.
      layout: `"split"` pairs feature `i` with `i + head_dim/2` (GPT-NeoX, Llama in
        Hugging Face form, Qwen, Gemma); `"interleaved"` pairs `2i` with `2i + 1`
        (GPT-J, the original Llama). A fixed permutation of features turns one into
        the other.
    """
    width = 2 * rotation[0].shape[-1]
    if width < x.shape[-1]:
        rotated = rotate(x[..., :width], rotation, layout=layout)
        return jnp.concatenate([rotated, x[..., width:]], axis=-1)
    cos, sin = (jnp.expand_dims(table, -2) for table in rotation)
    wide = x.astype(jnp.float32)
    if layout == "split":
        a, b = jnp.split(wide, 2, axis=-1)
    else:
        a, b = wide[..., 0::2], wide[..., 1::2]
    rotated = a * cos - b * sin, b * cos + a * sin
    if layout == "split":
        return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
    return jnp.stack(rotated, axis=-1).reshape(x.shape).astype(x.dtype)
