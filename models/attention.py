"""Grouped-query self-attention over packed rows."""

import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, masks, rope, sharding
from models.adapters.low_rank import Adapters
from models.initializers import Initializer, Scaled
from models.kernels import cached_attention
from models.masks import Mask
from models.norms import LayerNorm, Norm, RMSNorm

Projections = tuple[jax.Array, jax.Array, jax.Array]
Rotation = tuple[jax.Array, jax.Array]
NORMED_OVER = ("head", "heads")
"""What a norm of queries and keys is over: the features of a head, or of all heads."""
QK_NORMS = {"rms": RMSNorm, "layer": functools.partial(LayerNorm, biased=False)}
"""Norms of queries and keys, by name."""


class Attention(nnx.Module):
    """`softmax(q kᵀ · scale + mask) v`, `num_heads / num_kv_heads` queries a key.

    With `sinks`, each head's softmax has one more entry, a learned score of value 0
    (gpt-oss; Xiao et al. 2023, arXiv:2309.17453, section 3.3). Split into `project`,
    `attend` and `merge`, so that generation can put its cache between them.

    Attributes:
      intermediates: names that `captured` offers, once a layer: `queries`
        `[b t heads head_dim]`, `keys` and `values` `[b t kv_heads head_dim]` after
        norm and rotation; `attention` `[b t heads t]`, the scores before the
        softmax (scaled, capped, float32), -inf where a query may not look.
    """

    intermediates: ClassVar[frozenset[str]] = frozenset(
        {"queries", "keys", "values", "attention"}
    )
    adapters: Adapters | None = None

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        bias: bool = False,
        output_bias: bool = False,
        sinks: bool = False,
        qk_norm: bool | str = False,
        qk_norm_over: str = "head",
        norm_eps: float,
        norm_offset: float = 0.0,
        rope_layout: str = "split",
        scale: float | None = None,
        soft_cap: float | None = None,
        init: Initializer,
        output_scale: float,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        checks.one_of("qk_norm_over", qk_norm_over, NORMED_OVER)
        if isinstance(qk_norm, str):
            checks.one_of("qk_norm", qk_norm, QK_NORMS)
        self.rope_layout = rope_layout
        self.qk_norm_over = qk_norm_over
        self.scale = 1 / math.sqrt(head_dim) if scale is None else scale
        self.soft_cap = soft_cap
        self.dtype = dtype

        def head_kernel(heads: int, name: str) -> nnx.Param:
            return sharding.parameter(
                init,
                rngs,
                (dim, heads, head_dim),
                axes=("embed", name, None),
                dtype=param_dtype,
                fan=(dim, heads * head_dim),
            )

        def zeros(shape: tuple[int, ...], axes: tuple) -> nnx.Param:
            init = jax.nn.initializers.zeros
            return sharding.parameter(init, rngs, shape, axes=axes, dtype=param_dtype)

        def head_bias(heads: int, name: str) -> nnx.Param | None:
            return zeros((heads, head_dim), (name, None)) if bias else None

        def head_norm(heads: int) -> Norm | None:
            if not qk_norm:
                return None
            kind = RMSNorm if qk_norm is True else QK_NORMS[str(qk_norm)]
            return kind(
                dim=head_dim if qk_norm_over == "head" else heads * head_dim,
                eps=norm_eps,
                offset=norm_offset,
                param_dtype=param_dtype,
                rngs=rngs,
            )

        # Into heads.
        self.query = head_kernel(num_heads, "heads")
        self.key = head_kernel(num_kv_heads, "kv_heads")
        self.value = head_kernel(num_kv_heads, "kv_heads")
        self.query_bias = head_bias(num_heads, "heads")
        self.key_bias = head_bias(num_kv_heads, "kv_heads")
        self.value_bias = head_bias(num_kv_heads, "kv_heads")
        self.query_norm = head_norm(num_heads)
        self.key_norm = head_norm(num_kv_heads)
        # Back into the residual stream, which starts smaller with depth.
        self.output = sharding.parameter(
            Scaled(init, output_scale),
            rngs,
            (num_heads, head_dim, dim),
            axes=("heads", None, "embed"),
            dtype=param_dtype,
            fan=(num_heads * head_dim, dim),
        )
        self.output_bias = zeros((dim,), (None,)) if output_bias else None
        self.sinks = zeros((num_heads,), ("heads",)) if sinks else None

    def __call__(
        self, x: jax.Array, rotation: Rotation | None, mask: Mask | None
    ) -> jax.Array:
        """Return the attention's output, `[b t d]`.

        Args:
          x: `[b t d]`.
          rotation: tables of `rope.angles`; without it positions are not encoded.
          mask: `[b t t]`, query by key, true where the query may look, or the
            packing of `causal`; without it every token sees every other.
        """
        return self.merge(self.attend(*self.project(x, rotation), mask))

    def project(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Queries `[b t heads head_dim]`, keys, values `[b t kv_heads head_dim]`."""
        query = self._heads(x, "query", self.query, self.query_bias)
        key = self._heads(x, "key", self.key, self.key_bias)
        value = self._heads(x, "value", self.value, self.value_bias)
        if self.query_norm is not None and self.key_norm is not None:
            query = self._normed(self.query_norm, query)
            key = self._normed(self.key_norm, key)
        if rotation is None:
            return query, key, value
        query = rope.rotate(query, rotation, layout=self.rope_layout)
        key = rope.rotate(key, rotation, layout=self.rope_layout)
        return query, key, value

    def project_cached(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Queries, and the two arrays `[b t heads width]` that a cache holds of `x`."""
        return self.project(x, rotation)

    def _normed(self, norm: Norm, x: jax.Array) -> jax.Array:
        """Return `x [b t heads head_dim]`, each head normalized or all as one."""
        if self.qk_norm_over == "head":
            return norm(x)
        return norm(x.reshape(*x.shape[:-2], -1)).reshape(x.shape)

    def attend(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: Mask | None,
    ) -> jax.Array:
        """Return weighted values `[b t heads head_dim]`; softmax in float32."""
        sinks = None if self.sinks is None else self.sinks[...].astype(jnp.float32)
        if mask is not None and not isinstance(mask, jax.Array):
            return masks.attend(
                query * self.scale,
                key,
                value,
                mask,
                soft_cap=self.soft_cap,
                sinks=sinks,
            )
        batch, length, heads, _ = query.shape
        scores = self._scores(query, key)
        if mask is not None:
            allowed = jnp.broadcast_to(jnp.expand_dims(mask, (1, 2)), scores.shape)
            scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
        largest = jnp.max(scores, axis=-1, keepdims=True)
        if sinks is not None:
            sinks = jnp.broadcast_to(
                sinks.reshape(1, *scores.shape[1:3], 1, 1), largest.shape
            )
            largest = jnp.maximum(largest, sinks)
        largest = jax.lax.stop_gradient(largest)
        weights = jnp.exp(scores - largest)
        # Divided by the sum after the product with the values, `[t head_dim]`, and not
        # before it, `[t t]`: 14 ms where `jax.nn.dot_product_attention`, which has no
        # soft cap either, takes 18 (4 heads of 64, 16 rows of 128 tokens, forward and
        # backward, CPU).
        total = jnp.sum(weights, axis=-1)
        if sinks is not None:
            total = total + jnp.exp(sinks - largest)[..., 0]
        shape = weights.shape
        mixed = jnp.einsum(
            "bkqs,bksd->bkqd",
            weights.astype(value.dtype).reshape(*shape[:2], -1, shape[-1]),
            jnp.moveaxis(value, 1, 2),
            preferred_element_type=jnp.float32,
        ).reshape(*shape[:-1], -1)
        mixed = (mixed / total[..., None]).astype(value.dtype)
        return jnp.moveaxis(mixed, 3, 1).reshape(batch, length, heads, -1)

    def attend_cached(
        self, query: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array
    ) -> jax.Array:
        """Return weighted values `[b t heads head_dim]`, see `cached_attention`."""
        return cached_attention.attend(
            query * self.scale,
            keys,
            values,
            mask,
            soft_cap=self.soft_cap,
            sinks=None if self.sinks is None else self.sinks[...],
        )

    def merge(self, mixed: jax.Array) -> jax.Array:
        """Project heads back into the residual stream, `[b t d]`."""
        y = jnp.einsum("bthk,hkd->btd", mixed, self.output[...].astype(self.dtype))
        if self.adapters is not None:
            y = self.adapters.add("output", mixed, y)
        if self.output_bias is None:
            return y
        return y + jnp.broadcast_to(self.output_bias[...].astype(self.dtype), y.shape)

    def captured(
        self, names: frozenset[str], projections: Projections, mask: Mask | None
    ) -> dict[str, jax.Array]:
        """Return those of `intermediates` that are in `names`.

        The compiler merges the scores computed here with those of `attend`.
        """
        query, key, value = projections
        arrays = {"queries": query, "keys": key, "values": value}
        if "attention" in names:
            scores = jnp.moveaxis(self._scores(query, key), 3, 1)
            scores = scores.reshape(*query.shape[:3], key.shape[1])
            if mask is not None and not isinstance(mask, jax.Array):
                mask = masks.packed_mask(mask.segment_ids, mask.window)
            if mask is not None:
                scores = jnp.where(jnp.expand_dims(mask, 2), scores, -jnp.inf)
            arrays["attention"] = scores
        return {name: x for name, x in arrays.items() if name in names}

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        """Return scores `[b kv_heads heads/kv_heads t s]`, float32, before any mask."""
        batch, length, heads, head_dim = query.shape
        groups = key.shape[2]
        query = (query * self.scale).reshape(batch, length, groups, -1, head_dim)
        # One product of matrices for each key's head, rows of which stay whole: left to
        # itself XLA on a CPU turns queries and scores entry by entry.
        query = jnp.moveaxis(query, 1, 3).reshape(batch, groups, -1, head_dim)
        scores = jnp.einsum(
            "bkqd,bksd->bkqs",
            query,
            jnp.moveaxis(key, 1, 2),
            preferred_element_type=jnp.float32,
        ).reshape(batch, groups, heads // groups, length, -1)
        if self.soft_cap is not None:
            scores = self.soft_cap * jnp.tanh(scores / self.soft_cap)
        return scores

    def _heads(
        self, x: jax.Array, name: str, kernel: nnx.Param, bias: nnx.Param | None
    ) -> jax.Array:
        y = jnp.einsum("btd,dhk->bthk", x, kernel[...].astype(self.dtype))
        if self.adapters is not None:
            y = self.adapters.add(name, x, y)
        if bias is not None:
            y = y + jnp.broadcast_to(bias[...].astype(self.dtype), y.shape)
        axis = "heads" if name.startswith("query") else "kv_heads"
        return sharding.constrain(y, ("batch", None, axis, None))


def check_heads(
    dim: int, *, num_heads: int, num_kv_heads: int, head_dim: int | None
) -> int:
    """Return the features of a head; `head_dim` None is `dim / num_heads`.

    Raises:
      ValueError: for numbers that do not divide, or an odd `head_dim`.
    """
    checks.positive(num_heads=num_heads, num_kv_heads=num_kv_heads)
    checks.divisible("num_heads", num_heads, by="num_kv_heads", divisor=num_kv_heads)
    if head_dim is None:
        by = "num_heads when head_dim is None"
        checks.divisible("dim", dim, by=by, divisor=num_heads)
        head_dim = dim // num_heads
    if head_dim <= 0 or head_dim % 2:
        raise ValueError(f"head_dim must be positive and even, got {head_dim}")
    return head_dim
