"""Vision transformer: patches as tokens, full attention."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import checks, sharding
from models.attention import Attention
from models.base import (
    REMAT,
    Batch,
    TrunkOutput,
    check_capture,
    check_remat,
    stack_captured,
)
from models.block import Block, Recipe
from models.initializers import FAN_IN, SMALL, Initializer
from models.layers import form
from models.mlp import GatedMLP
from models.norms import RMSNorm
from models.tags import DType, ParamDType, check_dtypes
from models.vision.images import Classifier, standardize

EPS = 1e-6


class VisionTransformer(Classifier):
    """Patch embedding, positions, pre-norm blocks, norm, pooling, a linear head.

    The blocks are those of `Transformer`: RMSNorm and a gated feed-forward layer, where
    Dosovitskiy et al. have LayerNorm and a plain one; attention has neither a mask nor
    rotary positions.

    Args:
      num_classes: number of logits.
      image_size: height and width in pixels.
      channels: of the images.
      patch_size: side of a patch in pixels; divides both of `image_size`.
      dim: width of the residual stream.
      num_layers: blocks.
      num_heads: heads of attention.
      mlp: as in `Transformer`.
      positions: `"learned"`, or `"sincos"`: fixed, of both coordinates.
      pool: input of the head: `"mean"` over patches, or a learned `"token"` before
        them (the class token).
      pixel_mean: of the data, for pixels in [0, 1].
      pixel_stddev: likewise.
      init: of every matrix but the head.
      token_init: of the class token and of learned positions.
      head_init: of the head.
      layers: `"separate"` or `"stacked"`, as in `Transformer`.
      dtype: type of activations and products.
      param_dtype: type of the parameters.
      rngs: of the initial values.

    Intermediates: `hidden` `[b layer dim]`, each block's output, pooled, before the
    norm; `hidden/i` is one of them. `patches` `[b layer patch dim]` and `patches/i`
    alike, of every patch.

    Source: Dosovitskiy et al. 2020 (arXiv:2010.11929), equations 1 to 4; Beyer et al.
    2022 (arXiv:2205.01580) for `"sincos"` with `"mean"`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: Sequence[int] = (28, 28),
        channels: int = 1,
        patch_size: int = 4,
        dim: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        mlp: Callable[..., nnx.Module] = GatedMLP,
        positions: Literal["learned", "sincos"] = "learned",
        pool: Literal["mean", "token"] = "mean",
        pixel_mean: float = 0.5,
        pixel_stddev: float = 0.5,
        init: Initializer = FAN_IN,
        token_init: Initializer = SMALL,
        head_init: Initializer = SMALL,
        layers: str = "separate",
        dtype: Annotated[str, DType] = "float32",
        param_dtype: Annotated[str, ParamDType] = "float32",
        rngs: nnx.Rngs,
    ):
        height, width = image_size
        checks.positive(
            num_classes=num_classes,
            channels=channels,
            patch_size=patch_size,
            dim=dim,
            num_layers=num_layers,
            num_heads=num_heads,
            pixel_stddev=pixel_stddev,
        )
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        checks.divisible("dim", dim, by="num_heads", divisor=num_heads)
        checks.one_of("positions", positions, ("learned", "sincos"))
        checks.one_of("pool", pool, ("mean", "token"))
        if min(height, width) < 1 or height % patch_size or width % patch_size:
            raise ValueError(
                f"patch_size must divide image_size, got {patch_size} and "
                f"{height} x {width}"
            )
        if positions == "sincos" and dim % 4:
            raise ValueError(f"dim must be divisible by 4 for 'sincos', got {dim}")
        self.dim, self.num_outputs = dim, num_classes
        self.image_shape = (height, width, channels)
        self.patch_size, self.pool, self.dtype = patch_size, pool, dtype
        self.pixel_mean, self.pixel_stddev = pixel_mean, pixel_stddev
        self.grid = (height // patch_size, width // patch_size)

        # Recipes: what a block consists of.
        sublayer = {
            "dim": dim,
            "init": init,
            "output_scale": 1 / math.sqrt(2 * num_layers),
            "dtype": dtype,
            "param_dtype": param_dtype,
        }
        norm = functools.partial(RMSNorm, dim=dim, eps=EPS, param_dtype=param_dtype)
        recipe = Recipe(
            attention=functools.partial(
                Attention,
                num_heads=num_heads,
                num_kv_heads=num_heads,
                head_dim=dim // num_heads,
                norm_eps=EPS,
                **sublayer,
            ),
            mlp=functools.partial(mlp, **sublayer),
            norm=norm,
        )

        def parameter(init: Initializer, shape: tuple, axes: tuple) -> nnx.Param:
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        # Parameters: their order is the order in which keys are drawn.
        pixels = patch_size * patch_size * channels
        num_tokens = math.prod(self.grid) + (pool == "token")
        self.projection = parameter(init, (pixels, dim), (None, "embed"))
        self.token = parameter(token_init, (dim,), (None,)) if pool == "token" else None
        self.positions = (
            parameter(token_init, (num_tokens, dim), (None, "embed"))
            if positions == "learned"
            else None
        )
        self.blocks = form(layers).create(recipe.block, rngs, num_layers=num_layers)
        intermediates = self.blocks.samples[0].mlp.intermediates
        if intermediates:
            raise ValueError(
                f"mlp reports {', '.join(sorted(intermediates))} for every patch, "
                "where a loss sees images: give one that reports nothing"
            )
        self.norm = norm(rngs=rngs)
        self.output = parameter(head_init, (num_classes, dim), ("vocab", "embed"))

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Run the blocks over `images` `[b h w c]`, float in [0, 1] or uint8."""
        check_capture(capture, self.offers())
        wrap = REMAT[check_remat(remat)]
        kinds = sorted({path.partition("/")[0] for path in capture})

        def step(block: Block, x: jax.Array, _: None) -> tuple[jax.Array, dict]:
            x, _ = wrap(block)(x, None, None)
            of_layer = {"hidden": self._pooled, "patches": self._patches}
            return x, {kind: of_layer[kind](x) for kind in kinds}

        x, layers = self.blocks.run(step, self.embed(batch["images"]))
        captured = stack_captured(capture, layers, axis=1)
        return TrunkOutput(hidden=self._pooled(self.norm(x)), intermediates=captured)

    def offers(self) -> frozenset[str]:
        """Return `hidden` and `patches`, and `hidden/i`, `patches/i` of every block."""
        return frozenset(
            path
            for kind in ("hidden", "patches")
            for path in (kind, *(f"{kind}/{i}" for i in range(len(self.blocks))))
        )

    def embed(self, images: jax.Array) -> jax.Array:
        """Return the residual stream `[b t d]` before the first block, token first."""
        x = standardize(
            images, mean=self.pixel_mean, stddev=self.pixel_stddev, dtype=self.dtype
        )
        x = patches(x, self.patch_size) @ self.projection[...].astype(self.dtype)
        batch, _, dim = x.shape
        if self.token is not None:
            token = jnp.broadcast_to(
                self.token[...].astype(self.dtype), (batch, 1, dim)
            )
            x = jnp.concatenate([token, x], axis=1)
        x = x + jnp.broadcast_to(self._position_table(dim).astype(self.dtype), x.shape)
        return sharding.constrain(x, ("batch", None, None))

    def _position_table(self, dim: int) -> jax.Array:
        """Return `[t d]`; zeros for a class token beside fixed positions."""
        if self.positions is not None:
            return self.positions[...]
        table = jnp.asarray(sines(self.grid, dim))
        return table if self.token is None else jnp.pad(table, [(1, 0), (0, 0)])

    def _pooled(self, x: jax.Array) -> jax.Array:
        return jnp.mean(x, axis=1) if self.pool == "mean" else x[:, 0]

    def _patches(self, x: jax.Array) -> jax.Array:
        return x if self.token is None else x[:, 1:]


def patches(images: jax.Array, size: int) -> jax.Array:
    """Cut `[b h w c]` into `[b (h/size w/size) (size size c)]`, row by row."""
    batch, height, width, channels = images.shape
    shape = (batch, height // size, size, width // size, size, channels)
    tiles = jnp.swapaxes(images.reshape(shape), 2, 3)
    return tiles.reshape(batch, -1, size * size * channels)


def sines(grid: tuple[int, int], dim: int) -> np.ndarray:
    """Fixed positions `[h w, dim]`: sin and cos of `x ω_i`, then of `y ω_i`.

    `ω_i = 10000^(-4i/dim)`, a quarter of the entries each.

    Source: Chen et al. 2021, MoCo v3 (arXiv:2104.02057).
    """
    rates = 10_000.0 ** (-np.arange(dim // 4) / (dim // 4))
    y, x = np.divmod(np.arange(math.prod(grid)), grid[1])
    angles = [np.multiply.outer(place, rates) for place in (x, y)]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1).astype(np.float32)
