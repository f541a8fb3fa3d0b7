"""Pre-norm residual block of the transformers: attention, then a feed-forward layer."""

import jax
from flax import nnx

from models import sharding
from models.attention import Attention, Rotation
from models.norms import RMSNorm


class Block(nnx.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, *, attention: Attention, mlp, norms: tuple[RMSNorm, RMSNorm]):
        self.attention_norm, self.mlp_norm = norms
        self.attention = attention
        self.mlp = mlp

    def __call__(
        self,
        x: jax.Array,
        rotation: Rotation | None,
        mask: jax.Array | None,
        *,
        capture: frozenset[str] = frozenset(),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `x [b t d]` after the block, and the layer's intermediates.

        Args:
          x: `[b t d]`, the residual stream.
          rotation: tables of `rope.angles`, or None.
          mask: `[b t t]`, or None.
          capture: names of the attention's intermediates to return.
        """
        attention = self.attention
        projections = attention.project(self.attention_norm(x), rotation)
        x = x + attention.merge(attention.attend(*projections, mask))
        y, mlp_intermediates = self.mlp(self.mlp_norm(x))
        x = sharding.constrain(x + y, ("batch", None, None))
        return x, {
            "hidden": x,
            **attention.captured(capture, projections, mask),
            **mlp_intermediates,
        }
