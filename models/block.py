"""Residual block of the transformers: attention, then a feed-forward layer."""

from typing import NamedTuple

import jax
from flax import nnx

from models import sharding
from models.attention import Attention, Mask, Projections, Rotation
from models.norms import RMSNorm

PLACEMENTS = ("pre", "post", "both")
"""Where norms stand: before each sublayer, after it, or both."""


class Norms(NamedTuple):
    """The norms around one sublayer; None where there is none."""

    before: RMSNorm | None = None
    after: RMSNorm | None = None


class Block(nnx.Module):
    """`x + s · after(attention(before(x)))`, then the same of `mlp`.

    Args:
      attention: of the first half.
      mlp: of the second; returns its output and its intermediates.
      norms: around the first half and around the second.
      residual_scale: `s`.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        mlp,
        norms: tuple[Norms, Norms],
        residual_scale: float = 1.0,
    ):
        (self.attention_norm, self.attention_post_norm) = norms[0]
        (self.mlp_norm, self.mlp_post_norm) = norms[1]
        self.attention = attention
        self.mlp = mlp
        self.residual_scale = residual_scale

    def __call__(
        self,
        x: jax.Array,
        rotation: Rotation | None,
        mask: Mask | None,
        *,
        capture: frozenset[str] = frozenset(),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `x [b t d]` after the block, and the layer's intermediates.

        Args:
          x: `[b t d]`, the residual stream.
          rotation: tables of `rope.angles`, or None.
          mask: as `Attention` takes it.
          capture: names of the attention's intermediates to return.
        """
        projections = self.project(x, rotation)
        x = self.add_attention(x, self.attention.attend(*projections, mask))
        x, mlp_intermediates = self.add_mlp(x)
        captured = {}
        if capture:
            captured = self.attention.captured(capture, projections, mask)
        return x, {"hidden": x, **captured, **mlp_intermediates}

    def project(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Return queries, keys and values of the residual stream `[b t d]`."""
        return self.attention.project(_normed(self.attention_norm, x), rotation)

    def add_attention(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
        """Return `x [b t d]` with the attention's `mixed [b t heads head_dim]`."""
        y = _normed(self.attention_post_norm, self.attention.merge(mixed))
        return x + self._scaled(y)

    def add_mlp(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `x [b t d]` with the second half, and its intermediates."""
        y, intermediates = self.mlp(_normed(self.mlp_norm, x))
        y = self._scaled(_normed(self.mlp_post_norm, y))
        return sharding.constrain(x + y, ("batch", None, None)), intermediates

    def _scaled(self, y: jax.Array) -> jax.Array:
        return y if self.residual_scale == 1.0 else y * self.residual_scale


def _normed(norm: RMSNorm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm(x)
