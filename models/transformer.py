"""A decoder-only transformer with the choices of Llama, Qwen and Gemma."""

import functools
import math
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from models import attention, projection, rope, sharding
from models import layers as forms
from models.base import (
    REMAT,
    Batch,
    Model,
    TrunkOutput,
    check_capture,
    check_remat,
    stack_captured,
)
from models.initializers import EMBEDDING, FAN_IN, SMALL, Initializer
from models.mlp import GatedMLP
from models.norms import RMSNorm
from models.tags import DType, ParamDType, check_dtype


class Block(nnx.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, *, attention, mlp, norms: tuple[RMSNorm, RMSNorm]):
        self.attention_norm, self.mlp_norm = norms
        self.attention = attention
        self.mlp = mlp

    def __call__(
        self,
        x: jax.Array,
        rotation: attention.Rotation | None,
        mask: jax.Array | None,
        *,
        capture: frozenset[str] = frozenset(),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`x [b t d]` -> the same shape, and the layer's intermediates.

        capture: those of the attention that are wanted.
        """
        attend = self.attention
        projections = attend.project(self.attention_norm(x), rotation)
        x = x + attend.merge(attend.attend(*projections, mask))
        y, reported = self.mlp(self.mlp_norm(x))
        x = sharding.constrain(x + y, ("batch", None, None))
        return x, {
            "hidden": x,
            **attend.captured(capture, projections, mask),
            **reported,
        }


class Transformer(Model):
    """Embedding, `num_layers` blocks, norm, head. Rows may hold several documents.

    num_kv_heads: None is `num_heads` (multi-head), 1 is multi-query.
    head_dim: None is `dim / num_heads`.
    mlp: called once a layer with `dim`, `init`, `output_scale`, `dtype`, `param_dtype`
        and `rngs`: `GatedMLP`, `MoE`, or a `functools.partial` of one.
    norm_offset: 1.0 for Gemma's `1 + scale`.
    rope_layout: `"split"` or `"interleaved"`, see `models.rope`.
    rope_scaling: what stretches the context, of `models.rope_scaling`; None is nothing.
    attention_bias: offsets on queries, keys and values (Qwen2).
    qk_norm: RMSNorm of each head's queries and keys (Qwen3, Gemma 3).
    attention_window: a token sees itself and the `attention_window - 1` before it
        (Mistral); None is all before it.
    attention_scale: None is `1 / sqrt(head_dim)`.
    attention_soft_cap, logit_soft_cap: `cap * tanh(x / cap)` (Gemma 2).
    embedding_scale: factor on token embeddings, `sqrt(dim)` for Gemma.
    tie_head: the head reads the embedding's parameter.
    embedding_init: of an embedding of its own. At 0.2 a model of dim 128 was 0.11 nats
        per byte ahead of 0.02 after 150 steps.
    head_init: of the head, and of the embedding where the two are one.
    init: of every matrix but the embedding and the head; those that write into the
        residual stream start `1 / sqrt(2 num_layers)` smaller (GPT-2), so that its size
        does not grow with depth.
    layers: `"separate"` parameters, `blocks/3/...`, or `"stacked"` along a first axis,
        `blocks/stacked/...`, and run by `jax.lax.scan`: compile time no longer grows
        with depth. It draws the same initial values and computes the same; an
        intermediate of one layer (`hidden/3`) is held for all of them, and an optimiser
        that judges a parameter as a whole (LAMB, Adafactor) judges all layers at once.

    Intermediates: `hidden` `[*b layer d]`, each block's output, before the last norm;
    `queries`, `keys`, `values` and `attention`, see `models.attention`; and what `mlp`
    returns; all stacked over layers.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        dim: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        mlp: Callable[..., nnx.Module] = GatedMLP,
        norm_eps: float = 1e-6,
        norm_offset: float = 0.0,
        rope_base: float = 10_000.0,
        rope_layout: str = "split",
        rope_scaling: rope.Scaling | None = None,
        attention_bias: bool = False,
        attention_window: int | None = None,
        attention_scale: float | None = None,
        attention_soft_cap: float | None = None,
        qk_norm: bool = False,
        embedding_scale: float = 1.0,
        logit_soft_cap: float | None = None,
        tie_head: bool = False,
        embedding_init: Initializer = EMBEDDING,
        head_init: Initializer = SMALL,
        init: Initializer = FAN_IN,
        layers: str = "separate",
        dtype: Annotated[str, DType] = "float32",
        param_dtype: Annotated[str, ParamDType] = "float32",
        rngs: nnx.Rngs,
    ):
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        for name, value in [
            ("vocab_size", vocab_size),
            ("dim", dim),
            ("num_layers", num_layers),
            ("num_heads", num_heads),
            ("num_kv_heads", num_kv_heads),
            ("rope_base", rope_base),
            ("attention_window", attention_window),
            ("attention_scale", attention_scale),
            ("attention_soft_cap", attention_soft_cap),
            ("logit_soft_cap", logit_soft_cap),
        ]:
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if num_heads % num_kv_heads:
            raise ValueError(
                "num_heads must be divisible by num_kv_heads, "
                f"got {num_heads} and {num_kv_heads}"
            )
        if head_dim is None and dim % num_heads:
            raise ValueError(
                "dim must be divisible by num_heads when head_dim is None, "
                f"got {dim} and {num_heads}"
            )
        head_dim = dim // num_heads if head_dim is None else head_dim
        if head_dim <= 0 or head_dim % 2:
            raise ValueError(f"head_dim must be positive and even, got {head_dim}")
        rope.check_layout(rope_layout)
        form = forms.FORMS[forms.check_form(layers)]
        check_dtype("dtype", dtype)
        check_dtype("param_dtype", param_dtype)

        self.num_outputs = vocab_size
        self.head_dim = head_dim
        self.num_kv_heads = num_kv_heads
        self.rope_base = rope_base
        self.rope_scaling = rope_scaling
        self.attention_window = attention_window
        self.embedding_scale = embedding_scale
        self.logit_soft_cap = logit_soft_cap
        self.dtype = dtype
        output_scale = 1 / math.sqrt(2 * num_layers)

        def norm(rngs: nnx.Rngs) -> RMSNorm:
            return RMSNorm(
                dim=dim,
                eps=norm_eps,
                offset=norm_offset,
                param_dtype=param_dtype,
                rngs=rngs,
            )

        def block(rngs: nnx.Rngs) -> Block:
            attend = attention.Attention(
                dim=dim,
                num_heads=num_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                bias=attention_bias,
                qk_norm=qk_norm,
                norm_eps=norm_eps,
                norm_offset=norm_offset,
                rope_layout=rope_layout,
                scale=attention_scale,
                soft_cap=attention_soft_cap,
                init=init,
                output_scale=output_scale,
                dtype=dtype,
                param_dtype=param_dtype,
                rngs=rngs,
            )
            feed_forward = mlp(
                dim=dim,
                init=init,
                output_scale=output_scale,
                dtype=dtype,
                param_dtype=param_dtype,
                rngs=rngs,
            )
            norms = norm(rngs), norm(rngs)
            return Block(attention=attend, mlp=feed_forward, norms=norms)

        def table(init: Initializer) -> nnx.Param:
            return sharding.parameter(
                init,
                rngs,
                (vocab_size, dim),
                axes=("vocab", "embed"),
                dtype=param_dtype,
            )

        self.embedding = table(head_init if tie_head else embedding_init)
        self.blocks = form.create(block, rngs, num_layers=num_layers)
        self.norm = norm(rngs)
        self.output = None if tie_head else table(head_init)

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Reads `tokens`, `segment_ids` and `positions`, each `[b t]`."""
        check_capture(capture, self.offers())
        wrap = REMAT[check_remat(remat)]
        x = self.embed(batch["tokens"])
        rotation = self.rotation(batch["positions"])
        mask = attention.packed_mask(batch["segment_ids"], self.attention_window)
        names = frozenset(path.partition("/")[0] for path in capture)

        def step(block: Block, x: jax.Array, _: None) -> tuple[jax.Array, dict]:
            run = wrap(functools.partial(block, capture=names))
            x, found = run(x, rotation, mask)
            return x, {name: found[name] for name in sorted(names)}

        x, layers = self.blocks.run(step, x)
        captured = stack_captured(capture, layers, axis=batch["tokens"].ndim)
        return TrunkOutput(hidden=self.norm(x), intermediates=captured)

    def head(self, hidden: jax.Array) -> jax.Array:
        """`[*b d]` -> logits `[*b vocab]`; accumulated and returned in float32."""
        table = self.embedding if self.output is None else self.output
        logits = projection.logits(hidden, table[...], self.dtype)
        if self.logit_soft_cap is not None:
            logits = self.logit_soft_cap * jnp.tanh(logits / self.logit_soft_cap)
        names = ("batch", *(None,) * logits.ndim)[: logits.ndim - 1]
        return sharding.constrain(logits, (*names, "vocab"))

    def offers(self) -> frozenset[str]:
        """`hidden`, what attention and `mlp` report, each by layer too: `hidden/0`."""
        block = self.blocks.sample
        names = {"hidden", *block.attention.intermediates, *block.mlp.intermediates}
        count = len(self.blocks)
        return frozenset(names | {f"{n}/{i}" for n in names for i in range(count)})

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Residual stream `[b t d]` before the first block."""
        # Gathered along `embed` first: a look-up in a table cut along what it returns
        # would be replicated over all devices.
        table = sharding.constrain(self.embedding[...], ("vocab", None))
        x = table.astype(self.dtype)[tokens] * self.embedding_scale
        return sharding.constrain(x, ("batch", None, None))

    def rotation(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Cosine and sine tables for these positions."""
        return rope.angles(
            positions, self.head_dim, base=self.rope_base, scaling=self.rope_scaling
        )
