"""Residual block of the transformers: attention, then a feed-forward layer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, sharding
from models.attention import Attention, Projections, Rotation
from models.base import ROUTER_EMBEDDING
from models.kernels import token_blocks
from models.kernels.packing import Packing
from models.masks import Mask
from models.norms import Norm
from models.running.state import RUNNING

PLACEMENTS = ("pre", "post", "both")
"""Where norms stand: before each sublayer, after it, or both."""
LONG = 4096
"""Tokens of a microbatch whose activations are too many for a CPU to keep them all."""
RESIDUALS = ("serial", "parallel")
"""What `mlp` reads: the stream after attention, or before it."""


class Norms(NamedTuple):
    """The norms around one sublayer; None where there is none."""

    before: Norm | None = None
    after: Norm | None = None


class Block(nnx.Module):
    """`x + s · after(attention(before(x)))`, then the same of `mlp`.

    With `parallel` residuals both read the same stream, and both are added to it
    (GPT-J, GPT-NeoX: Black et al. 2022, arXiv:2204.06745, equation 2).

    Args:
      attention: of the first half.
      mlp: of the second; returns its output and its intermediates.
      norms: around the first half and around the second.
      residual: of `RESIDUALS`.
      residual_scale: `s`.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        mlp,
        norms: tuple[Norms, Norms],
        residual: str = "serial",
        residual_scale: float = 1.0,
    ):
        (self.attention_norm, self.attention_post_norm) = norms[0]
        (self.mlp_norm, self.mlp_post_norm) = norms[1]
        self.attention = attention
        self.mlp = mlp
        self.residual = residual
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
          capture: names of the intermediates to make that are made for them alone.
        """
        over = self._over(x, mask)
        projections: Projections = over(self.project, x, rotation)
        mixed = self.attention.attend(*projections, mask)
        before = x
        x, mlp_intermediates = over(self.add, x, mixed)
        captured = {}
        if capture:
            captured = self.attention.captured(capture, projections, mask)
        if ROUTER_EMBEDDING in capture & self.mlp.intermediates:
            logits = mlp_intermediates["router_logits"]
            captured[ROUTER_EMBEDDING] = self.mlp.router_embedding(logits)
        if RUNNING in capture:
            captured[RUNNING] = self._observed(before, mixed)
        return x, {"hidden": x, **captured, **mlp_intermediates}

    def project(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Return queries, keys and values of the residual stream `[b t d]`."""
        return self.attention.project(_normed(self.attention_norm, x), rotation)

    def project_cached(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Return queries of `x [b t d]`, and what a cache holds of its tokens."""
        normed = _normed(self.attention_norm, x)
        return self.attention.project_cached(normed, rotation)

    def add(
        self, x: jax.Array, mixed: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `x [b t d]` after both halves, and the second's intermediates.

        Args:
          x: the residual stream.
          mixed: as `add_attention` takes it.
        """
        middle = self.add_attention(x, mixed)
        return self.add_mlp(middle, self.read_by_mlp(x, middle))

    def read_by_mlp(self, x: jax.Array, middle: jax.Array) -> jax.Array:
        """Return the stream that `mlp` reads: before attention, or after it."""
        return x if self.residual == "parallel" else middle

    def add_attention(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
        """Return `x [b t d]` with the attention's `mixed [b t heads head_dim]`."""
        y = _normed(self.attention_post_norm, self.attention.merge(mixed))
        return x + self._scaled(y)

    def add_mlp(
        self, x: jax.Array, read: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return `x [b t d]` with the second half of `read`, and its intermediates."""
        y, intermediates = self.mlp(_normed(self.mlp_norm, read))
        y = self._scaled(_normed(self.mlp_post_norm, y))
        return sharding.constrain(x + y, ("batch", None, None)), intermediates

    def _observed(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
        """Return what the running state of both norms observes, `[4]`."""
        norms: Any = self.attention_norm, self.mlp_norm
        read = self.read_by_mlp(x, self.add_attention(x, mixed))
        return jnp.concatenate([norms[0].observed(x), norms[1].observed(read)])

    def _over(self, x: jax.Array, mask: Mask | None) -> Callable[..., Any]:
        """Return how all but attention is run: at once, or in blocks of tokens."""
        long = (
            x.shape[0] * x.shape[1] >= LONG
            and isinstance(mask, Packing)
            and getattr(self.mlp, "position_wise", False)
            and getattr(self.mlp_norm, "apart", None) is None  # it knows whole rows
            and sharding.on_one_device()
            and sharding.platform() == "cpu"
        )
        return token_blocks.over_tokens if long else _at_once

    def _scaled(self, y: jax.Array) -> jax.Array:
        return y if self.residual_scale == 1.0 else y * self.residual_scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Makers of the parts that each block consists of, called with `rngs=`.

    Attributes:
      attention: of the first half.
      mlp: of the second.
      norm: of one norm.
      norm_placement: of `PLACEMENTS`.
      residual: of `RESIDUALS`.
      residual_scale: as of `Block`.
    """

    attention: Callable[..., Attention]
    mlp: Callable[..., nnx.Module]
    norm: Callable[..., Norm]
    norm_placement: str = "pre"
    residual: str = "serial"
    residual_scale: float = 1.0

    def __post_init__(self):
        checks.one_of("norm_placement", self.norm_placement, PLACEMENTS)
        checks.one_of("residual", self.residual, RESIDUALS)
        checks.positive(residual_scale=self.residual_scale)

    def block(self, rngs: nnx.Rngs) -> Block:
        """Make one block; the order of its parts is that in which keys are drawn."""
        return Block(
            attention=self.attention(rngs=rngs),
            mlp=self.mlp(rngs=rngs),
            norms=(self._norms(rngs), self._norms(rngs)),
            residual=self.residual,
            residual_scale=self.residual_scale,
        )

    def first(
        self,
        mlp: Callable[..., nnx.Module] | None,
        sublayer: Mapping[str, Any],
        count: int,
        num_layers: int,
    ) -> list[Callable[[nnx.Rngs], Block]]:
        """Return what makes the first blocks, with `mlp` of these fields as theirs.

        Raises:
          ValueError: there is no `mlp`, or are not so many layers.
        """
        if not 0 <= count <= num_layers or (mlp is None) != (count == 0):
            raise ValueError(
                f"first_layers must be from 1 to num_layers ({num_layers}) beside a "
                f"first_mlp, else 0, got {count}"
            )
        if mlp is None:
            return []
        recipe = dataclasses.replace(self, mlp=functools.partial(mlp, **sublayer))
        return [recipe.block] * count

    def _norms(self, rngs: nnx.Rngs) -> Norms:
        return Norms(
            before=None if self.norm_placement == "post" else self.norm(rngs=rngs),
            after=None if self.norm_placement == "pre" else self.norm(rngs=rngs),
        )


def offered(blocks: Sequence[Block]) -> frozenset[str]:
    """Return the names of intermediates of any block, and with each block's number."""
    names = [
        {"hidden", *block.attention.intermediates, *block.mlp.intermediates}
        for block in blocks
    ]
    numbered = {f"{name}/{i}" for i, of_one in enumerate(names) for name in of_one}
    return frozenset(numbered.union(*names))


def _at_once(fn: Callable[..., Any], *arrays: Any) -> Any:
    return fn(*arrays)


def _normed(norm: Norm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm(x)
