"""A vision transformer: patches as tokens, each seeing all."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import layers as forms
from models import sharding
from models.attention import Attention
from models.base import (
    REMAT,
    Batch,
    TrunkOutput,
    check_capture,
    check_remat,
    stack_captured,
)
from models.initializers import FAN_IN, SMALL, Initializer
from models.mlp import GatedMLP
from models.norms import RMSNorm
from models.tags import DType, ParamDType
from models.transformer import Block
from models.vision.images import Classifier, check_fields, standardised

EPS = 1e-6


class VisionTransformer(Classifier):
    """Patches, projected and placed; pre-norm blocks; norm, pooling, a linear head.

    The blocks are those of `Transformer`: RMSNorm and a gated feed-forward layer, where
    Dosovitskiy et al. have LayerNorm and a plain one; attention has neither a mask nor
    rotary positions.

    image_size, patch_size: sides in pixels; the second divides the first.
    positions:   `"learned"`, or `"sincos"`: fixed, of both coordinates.
    pool:        what the head reads: `"mean"` over patches, or a learned `"token"` put
                 before them (the class token).
    pixel_mean, pixel_stddev: of the data, for pixels in [0, 1].
    layers:      `"separate"` or `"stacked"`, as in `Transformer`.

    Intermediates: `hidden` `[b layer dim]`, each block's output, pooled, before the
    norm; `hidden/i` is one of them.

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
        check_fields(
            num_classes=num_classes,
            channels=channels,
            patch_size=patch_size,
            dim=dim,
            num_layers=num_layers,
            num_heads=num_heads,
            stddev=pixel_stddev,
            dtype=dtype,
            param_dtype=param_dtype,
        )
        if dim % num_heads:
            raise ValueError(
                f"dim must be divisible by num_heads, got {dim} and {num_heads}"
            )
        if min(height, width) < 1 or height % patch_size or width % patch_size:
            raise ValueError(
                f"patch_size must divide image_size, got {patch_size} and "
                f"{height} x {width}"
            )
        if positions == "sincos" and dim % 4:
            raise ValueError(f"dim must be divisible by 4 for 'sincos', got {dim}")
        _one_of("positions", positions, ("learned", "sincos"))
        _one_of("pool", pool, ("mean", "token"))
        form = forms.FORMS[forms.check_form(layers)]
        self.num_outputs = num_classes
        self.image_shape = (height, width, channels)
        self.patch_size, self.pool, self.dtype = patch_size, pool, dtype
        self.pixel_mean, self.pixel_stddev = pixel_mean, pixel_stddev
        self.grid = (height // patch_size, width // patch_size)
        output_scale = 1 / math.sqrt(2 * num_layers)

        def parameter(init: Initializer, shape: tuple, axes: tuple) -> nnx.Param:
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        def norm(rngs: nnx.Rngs) -> RMSNorm:
            return RMSNorm(dim=dim, eps=EPS, param_dtype=param_dtype, rngs=rngs)

        def block(rngs: nnx.Rngs) -> Block:
            shared = {
                "dim": dim,
                "init": init,
                "output_scale": output_scale,
                "dtype": dtype,
                "param_dtype": param_dtype,
                "rngs": rngs,
            }
            attend = Attention(
                num_heads=num_heads,
                num_kv_heads=num_heads,
                head_dim=dim // num_heads,
                bias=False,
                qk_norm=False,
                norm_eps=EPS,
                norm_offset=0.0,
                rope_layout="split",
                scale=None,
                soft_cap=None,
                **shared,
            )
            feed_forward = mlp(**shared)
            return Block(
                attention=attend, mlp=feed_forward, norms=(norm(rngs), norm(rngs))
            )

        pixels, tokens = patch_size * patch_size * channels, math.prod(self.grid)
        tokens += pool == "token"
        self.projection = parameter(init, (pixels, dim), (None, "embed"))
        self.token = parameter(token_init, (dim,), (None,)) if pool == "token" else None
        self.positions = (
            parameter(token_init, (tokens, dim), (None, "embed"))
            if positions == "learned"
            else None
        )
        self.blocks = form.create(block, rngs, num_layers=num_layers)
        reported = self.blocks.sample.mlp.intermediates
        if reported:
            raise ValueError(
                f"mlp reports {', '.join(sorted(reported))} for every patch, where a "
                "loss sees images: give one that reports nothing"
            )
        self.norm = norm(rngs)
        self.output = parameter(head_init, (num_classes, dim), ("vocab", "embed"))

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Reads `images` `[b h w c]`, float in [0, 1] or unsigned bytes."""
        check_capture(capture, self.offers())
        wrap = REMAT[check_remat(remat)]

        def step(block: Block, x: jax.Array, _: None) -> tuple[jax.Array, dict]:
            x, _ = wrap(block)(x, None, None)
            return x, {"hidden": self._pooled(x)} if capture else {}

        x, layers = self.blocks.run(step, self.embed(batch["images"]))
        captured = stack_captured(capture, layers, axis=1)
        return TrunkOutput(hidden=self._pooled(self.norm(x)), intermediates=captured)

    def offers(self) -> frozenset[str]:
        """`hidden`, and `hidden/i` of every block."""
        count = len(self.blocks)
        return frozenset({"hidden", *(f"hidden/{i}" for i in range(count))})

    def embed(self, images: jax.Array) -> jax.Array:
        """Residual stream `[b t d]` before the first block, the class token first."""
        x = standardised(
            images, mean=self.pixel_mean, stddev=self.pixel_stddev, dtype=self.dtype
        )
        x = patches(x, self.patch_size) @ self.projection[...].astype(self.dtype)
        batch, _, dim = x.shape
        if self.token is not None:
            token = jnp.broadcast_to(
                self.token[...].astype(self.dtype), (batch, 1, dim)
            )
            x = jnp.concatenate([token, x], axis=1)
        x = x + jnp.broadcast_to(self._places(dim).astype(self.dtype), x.shape)
        return sharding.constrain(x, ("batch", None, None))

    def _places(self, dim: int) -> jax.Array:
        """`[t d]`; a class token beside fixed positions has none."""
        if self.positions is not None:
            return self.positions[...]
        table = jnp.asarray(sines(self.grid, dim))
        return table if self.token is None else jnp.pad(table, [(1, 0), (0, 0)])

    def _pooled(self, x: jax.Array) -> jax.Array:
        return jnp.mean(x, axis=1) if self.pool == "mean" else x[:, 0]


def patches(images: jax.Array, size: int) -> jax.Array:
    """`[b h w c]` -> `[b (h/size w/size) (size size c)]`, row by row."""
    batch, height, width, channels = images.shape
    shape = (batch, height // size, size, width // size, size, channels)
    apart = jnp.swapaxes(images.reshape(shape), 2, 3)
    return apart.reshape(batch, -1, size * size * channels)


def sines(grid: tuple[int, int], dim: int) -> np.ndarray:
    """`[h w, dim]`: sine and cosine of `x ω_i`, then of `y ω_i`, `ω_i = 10000^(-4i/d)`.

    A quarter of the entries each. Source: Chen et al. 2021, MoCo v3 (arXiv:2104.02057).
    """
    rates = 10_000.0 ** (-np.arange(dim // 4) / (dim // 4))
    y, x = np.divmod(np.arange(math.prod(grid)), grid[1])
    angles = [np.multiply.outer(place, rates) for place in (x, y)]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}")
