"""Decoder-only transformer with the options of Llama, Qwen and Gemma."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models import checks, layer_attention, masks, rope, sharding
from models.base import (
    EMBEDDING_SHIFT,
    REMAT,
    Batch,
    Model,
    TrunkOutput,
    check_capture,
    check_remat,
    stack_captured,
)
from models.block import Block, Recipe, offered
from models.initializers import EMBEDDING, FAN_IN, SMALL, Initializer
from models.kernels import projection
from models.latent_attention import Latents
from models.layer_attention import LayerAttention
from models.layers import form
from models.mlp import GatedMLP
from models.norms import NORMS
from models.running.state import RUNNING
from models.tags import DType, ParamDType, check_dtypes


class Transformer(Model):
    """Embedding, `num_layers` blocks, norm, head. Rows may hold several documents.

    Args:
      vocab_size: number of logits.
      dim: width of the residual stream.
      num_layers: blocks.
      num_heads: heads of queries.
      num_kv_heads: heads of keys and values; None is `num_heads` (multi-head), 1 is
        multi-query.
      head_dim: features of a head; None is `dim / num_heads`.
      mlp: called once a layer with `dim`, `init`, `output_scale`, `dtype`,
        `param_dtype` and `rngs`: `GatedMLP`, `MLP`, `MoE`, or a
        `functools.partial` of one.
      first_mlp: in place of `mlp` in the first `first_layers` (DeepSeek: dense).
      first_layers: how many have it.
      norm: of the residual stream, `"rms"` or `"layer"` (GPT, StarCoder 2).
      norm_eps: `eps` of every norm.
      norm_offset: 1.0 for Gemma's `1 + scale`.
      norm_placement: `"pre"`: before attention and before `mlp`; `"post"`: after them,
        before the sum (OLMo 2, arXiv:2501.00656, section 3.2); `"both"` (Gemma 2).
      residual: `"serial"`: `mlp` reads what attention was added to; `"parallel"`:
        both read the same (GPT-NeoX).
      residual_scale: factor on what attention and `mlp` add (Granite).
      learned_positions: entries of a table that is added to embeddings, as many as the
        longest row has tokens (GPT-2); None is no table.
      rope_base: base of the rotary frequencies.
      rope_layout: `"split"` or `"interleaved"`, see `models.rope`.
      rope_dim: features of a head that are rotated, the first ones; None is all.
      rope_scaling: context extension, of `models.rope_scaling`; None is none.
      attention_bias: biases on queries, keys and values (Qwen2).
      attention_output_bias: a bias on what attention adds (GPT, StarCoder 2).
      attention_sinks: each head's softmax has a learned score of value 0 (gpt-oss).
      latents: keys and values are products of short vectors (MLA of DeepSeek-V2 and
        V3); the fields of heads and biases are then left out. None is plain heads.
      attention_window: a token attends to itself and the `attention_window - 1`
        before it (Mistral); None is all before it.
      attention_pattern: kinds of the first layers, again and again over all of them
        (Gemma 2 and 3, SmolLM3); empty: every layer as `attention_window`, `rope_base`
        and `rope_scaling` say, which a pattern takes the place of.
      attention_scale: factor on scores; None is `1 / sqrt(head_dim)`.
      attention_soft_cap: `cap * tanh(x / cap)` of scores (Gemma 2).
      qk_norm: norm of queries and keys, `"rms"` or True (Qwen3, Gemma 3), or `"layer"`
        without a bias (arXiv:2309.14322, section 2.2); False is none.
      qk_norm_over: `"head"`: of the features of each; `"heads"`: of all heads as one
        vector (OLMo 2).
      embedding_scale: factor on token embeddings, `sqrt(dim)` for Gemma.
      logit_divisor: logits are divided by it, before the cap (Granite).
      logit_soft_cap: `cap * tanh(x / cap)` of logits (Gemma 2).
      tie_head: the head reads the embedding's parameter.
      head_rank: the head is two factors, `[dim, head_rank]` and `[vocab, head_rank]`;
        `hidden` is read through the first of them. None is one matrix.
      embedding_init: of an embedding that is not tied. At 0.2 a model of dim 128 was
        0.11 nats per byte ahead of 0.02 after 150 steps.
      head_init: of the head, and of a tied embedding.
      init: of every matrix but the embedding and the head; those that write into the
        residual stream start `1 / sqrt(2 num_layers)` smaller (GPT-2), so that its
        size does not grow with depth.
      layers: `"separate"` parameters, `blocks/3/...`, or `"stacked"` along a first
        axis, `blocks/stacked/...`, and run by `jax.lax.scan`: compile time no
        longer grows with depth. Initial values and results are the same; an
        intermediate of one layer (`hidden/3`) is held for all of them, and an
        optimizer that judges a parameter as a whole (LAMB, Adafactor) judges all
        layers at once.
      dtype: type of activations and products.
      param_dtype: type of the parameters.
      rngs: of the initial values.

    Intermediates, stacked over layers: `hidden` `[*b layer d]`, each block's output,
    before the last norm; `queries`, `keys`, `values` and `attention`, see
    `models.attention`; and those of `mlp`.
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
        first_mlp: Callable[..., nnx.Module] | None = None,
        first_layers: int = 0,
        norm: str = "rms",
        norm_eps: float = 1e-6,
        norm_offset: float = 0.0,
        norm_placement: str = "pre",
        residual: str = "serial",
        residual_scale: float = 1.0,
        learned_positions: int | None = None,
        rope_base: float = 10_000.0,
        rope_layout: str = "split",
        rope_dim: int | None = None,
        rope_scaling: rope.Scaling | None = None,
        attention_bias: bool = False,
        attention_output_bias: bool = False,
        attention_sinks: bool = False,
        latents: Latents | None = None,
        attention_window: int | None = None,
        attention_pattern: Sequence[LayerAttention] = (),
        attention_scale: float | None = None,
        attention_soft_cap: float | None = None,
        qk_norm: bool | str = False,
        qk_norm_over: str = "head",
        embedding_scale: float = 1.0,
        logit_divisor: float = 1.0,
        logit_soft_cap: float | None = None,
        tie_head: bool = False,
        head_rank: int | None = None,
        embedding_init: Initializer = EMBEDDING,
        head_init: Initializer = SMALL,
        init: Initializer = FAN_IN,
        layers: str = "separate",
        dtype: Annotated[str, DType] = "float32",
        param_dtype: Annotated[str, ParamDType] = "float32",
        rngs: nnx.Rngs,
    ):
        checks.positive(
            vocab_size=vocab_size,
            dim=dim,
            num_layers=num_layers,
            learned_positions=learned_positions,
            rope_base=rope_base,
            attention_window=attention_window,
            attention_scale=attention_scale,
            attention_soft_cap=attention_soft_cap,
            logit_divisor=logit_divisor,
            logit_soft_cap=logit_soft_cap,
            head_rank=head_rank,
        )
        if tie_head and head_rank is not None:
            raise ValueError("head_rank is of a head of its own: tie_head=False")
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        checks.one_of("rope_layout", rope_layout, rope.LAYOUTS)
        checks.one_of("norm", norm, NORMS)
        # Recipes: what a block consists of; `layers` says how often it is followed.
        sublayer = {
            "dim": dim,
            "init": init,
            "output_scale": 1 / math.sqrt(2 * num_layers),
            "dtype": dtype,
            "param_dtype": param_dtype,
        }
        heads = layer_attention.heads(
            latents,
            {
                "num_heads": num_heads,
                "norm_offset": norm_offset,
                "rope_layout": rope_layout,
                "scale": attention_scale,
                "soft_cap": attention_soft_cap,
                **sublayer,
            },
            {
                "num_kv_heads": num_kv_heads,
                "head_dim": head_dim,
                "bias": attention_bias,
                "output_bias": attention_output_bias,
                "sinks": attention_sinks,
                "qk_norm": qk_norm,
                "qk_norm_over": qk_norm_over,
                "norm_eps": norm_eps,
            },
            rope_dim=rope_dim,
        )
        self.dim, self.num_outputs = head_rank or dim, vocab_size
        self.cached = heads.cached
        self.head_dim, self.rope_dim = heads.head_dim, heads.rope_dim
        self.heads = masks.Heads(
            width=heads.head_dim,
            dtype=dtype,
            soft_cap=attention_soft_cap,
            sinks=attention_sinks,
            value_width=heads.value_dim,
        )
        uniform = LayerAttention(
            window=attention_window, rope_base=rope_base, rope_scaling=rope_scaling
        )
        self.attention_kinds, self.layer_kinds = layer_attention.numbered(
            attention_pattern, uniform, num_layers
        )
        self.embedding_scale = embedding_scale
        self.logit_divisor, self.logit_soft_cap = logit_divisor, logit_soft_cap
        self.dtype = dtype

        of_stream = functools.partial(
            NORMS[norm],
            dim=dim,
            eps=norm_eps,
            offset=norm_offset,
            param_dtype=param_dtype,
        )
        recipe = Recipe(
            attention=heads.make,
            mlp=functools.partial(mlp, **sublayer),
            norm=of_stream,
            norm_placement=norm_placement,
            residual=residual,
            residual_scale=residual_scale,
        )
        first = recipe.first(first_mlp, sublayer, first_layers, num_layers)

        def table(init: Initializer, rows: int, axis: str | None, width: int = dim):
            shape, axes = (rows, width), (axis, "embed")
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        # Parameters: their order is the order in which keys are drawn.
        of_tokens = head_init if tie_head else embedding_init
        self.embedding = table(of_tokens, vocab_size, "vocab")
        self.positions = (
            table(SMALL, learned_positions, None) if learned_positions else None
        )
        self.blocks = form(layers).create(
            recipe.block, rngs, num_layers=num_layers, first=first
        )
        self.norm = of_stream(rngs=rngs)
        into, shape = ("embed", None), (dim, head_rank or dim)
        factor = functools.partial(sharding.parameter, init, rngs, shape, axes=into)
        self.head_factor = factor(dtype=param_dtype) if head_rank else None
        self.output = (
            None if tie_head else table(head_init, vocab_size, "vocab", self.dim)
        )

    def trunk(
        self,
        batch: Batch,
        *,
        capture: frozenset[str] = frozenset(),
        remat: str = "none",
    ) -> TrunkOutput:
        """Run the blocks over `tokens`, `segment_ids` and `positions`, each `[b t]`."""
        if capture:
            check_capture(capture, self.offers())
        wrap = REMAT[check_remat(remat)]
        positions, segment_ids = batch["positions"], batch["segment_ids"]
        x = self.embed(batch["tokens"], positions)
        if EMBEDDING_SHIFT in batch:  # of a view (`models.views`)
            x = x + batch[EMBEDDING_SHIFT].astype(x.dtype)
        of_kinds = [
            (
                self.rotation(positions, kind),
                masks.causal(segment_ids, kind.window, self.heads),
            )
            for kind in self.attention_kinds
        ]
        names = frozenset(path.partition("/")[0] for path in capture)

        def step(block: Block, x: jax.Array, kind: Any) -> tuple[jax.Array, dict]:
            run = wrap(functools.partial(block, capture=names))
            if kind is None:
                x, intermediates = run(x, *of_kinds[0])
            else:
                branches = [lambda x, args=args: run(x, *args) for args in of_kinds]
                x, intermediates = layer_attention.run_one(kind, branches, x)
            return x, {name: intermediates.get(name) for name in sorted(names)}

        x, layers = self.blocks.run(step, x, self.kinds_by_layer())
        hidden = self.read_out(x)
        if not capture:
            return TrunkOutput(hidden=hidden, intermediates={})
        paths = capture - {RUNNING}
        captured = stack_captured(paths, layers, axis=batch["tokens"].ndim)
        if RUNNING in capture:
            norm: Any = self.norm
            captured[RUNNING] = jnp.concatenate([*layers[RUNNING], norm.observed(x)])
        return TrunkOutput(hidden=hidden, intermediates=captured)

    def read_out(self, x: jax.Array) -> jax.Array:
        """Return what the head reads, `[*b d]`, of the residual stream after blocks."""
        hidden = self.norm(x)
        if self.head_factor is None:
            return hidden
        return hidden @ self.head_factor[...].astype(self.dtype)

    def head(self, hidden: jax.Array) -> jax.Array:
        """Return logits `[*b vocab]` of `[*b d]`; accumulated in float32."""
        table = self.embedding if self.output is None else self.output
        if isinstance(table, nnx.Module):
            logits = table(hidden)
        else:
            logits = projection.logits(hidden, table[...], self.dtype)
        if self.logit_divisor != 1.0:
            logits = logits / self.logit_divisor
        if (cap := self.logit_soft_cap) is not None:
            logits = cap * jnp.tanh(logits / cap)
        names = ("batch", *(None,) * logits.ndim)[: logits.ndim - 1]
        return sharding.constrain(logits, (*names, "vocab"))

    def offers(self) -> frozenset[str]:
        """Return `hidden`, intermediates of attention and `mlp`, and `hidden/0` ..."""
        paths = offered(self.blocks.samples)
        return paths | {RUNNING} if hasattr(self.norm, "observed") else paths

    def trunk_form(self, length: int, platform: str | None = None) -> str:
        """Return the kernel of attention over rows of this length."""
        return str(masks.kernel(length, self.heads, platform))

    def embed(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """Return the residual stream `[b t d]` before the first block.

        Args:
          tokens: `[b t]`.
          positions: `[b t]`, which a model with `learned_positions` adds.
        """
        # Gathered along `embed` first: a look-up in a table that is sharded along what
        # it returns would be replicated over all devices.
        table = sharding.constrain(self.embedding[...], ("vocab", None))
        x = table.astype(self.dtype)[tokens] * self.embedding_scale
        if self.positions is not None:
            self.check_length(tokens.shape[1])
            x = x + self.positions[...].astype(self.dtype)[positions]
        return sharding.constrain(x, ("batch", None, None))

    def check_length(self, length: int) -> None:
        """Refuse rows that are longer than the table of positions.

        Raises:
          ValueError: with both lengths.
        """
        if self.positions is not None and length > self.positions.shape[0]:
            raise ValueError(
                f"rows of {length:,} tokens are longer than learned_positions, "
                f"{self.positions.shape[0]:,}"
            )

    def kinds_by_layer(self) -> np.ndarray | None:
        """Return the place of each layer in `attention_kinds`; None if all are one."""
        return np.array(self.layer_kinds) if len(self.attention_kinds) > 1 else None

    def rotation(
        self,
        positions: jax.Array,
        kind: LayerAttention,
        lengths: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array] | None:
        """Return cosine and sine tables for these positions; None without rotations."""
        if not kind.rotary:
            return None
        return rope.angles(
            positions,
            self.rope_dim,
            base=kind.rope_base,
            scaling=kind.rope_scaling,
            lengths=lengths,
        )
