"""Grouped-query self-attention over packed rows."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from models import rope, sharding
from models.adapters.low_rank import Adapters
from models.initializers import Initializer, Scaled
from models.kernels import blocked_attention
from models.kernels.blocked_attention import Packing
from models.norms import RMSNorm

Projections = tuple[jax.Array, jax.Array, jax.Array]
Rotation = tuple[jax.Array, jax.Array]
Mask = jax.Array | Packing
NORMED_OVER = ("head", "heads")
"""What a norm of queries and keys is over: the features of a head, or of all heads."""


class Attention(nnx.Module):
    """`softmax(q kᵀ · scale + mask) v`, `num_heads / num_kv_heads` queries a key.

    Split into `project`, `attend` and `merge`, so that generation can put its cache
    between them.

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
        bias: bool,
        qk_norm: bool,
        qk_norm_over: str,
        norm_eps: float,
        norm_offset: float,
        rope_layout: str,
        scale: float | None,
        soft_cap: float | None,
        init: Initializer,
        output_scale: float,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
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

        def head_bias(heads: int, name: str) -> nnx.Param | None:
            if not bias:
                return None
            zeros = jax.nn.initializers.zeros
            shape, axes = (heads, head_dim), (name, None)
            return sharding.parameter(zeros, rngs, shape, axes=axes, dtype=param_dtype)

        def head_norm(heads: int) -> RMSNorm | None:
            if not qk_norm:
                return None
            return RMSNorm(
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

    def _normed(self, norm: RMSNorm, x: jax.Array) -> jax.Array:
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
        if isinstance(mask, Packing):
            return blocked_attention.attend(
                query * self.scale, key, value, mask, soft_cap=self.soft_cap
            )
        batch, length, heads, head_dim = query.shape
        scores = self._scores(query, key)
        if mask is not None:
            allowed = jnp.broadcast_to(jnp.expand_dims(mask, (1, 2)), scores.shape)
            scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
        largest = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - jax.lax.stop_gradient(largest))
        # Divided by the sum after the product with the values, `[t head_dim]`, and not
        # before it, `[t t]`: 14 ms where `jax.nn.dot_product_attention`, which has no
        # soft cap either, takes 18 (4 heads of 64, 16 rows of 128 tokens, forward and
        # backward, CPU).
        total = jnp.sum(weights, axis=-1)
        mixed = jnp.einsum(
            "bkgts,bskd->bkgtd",
            weights.astype(value.dtype),
            value,
            preferred_element_type=jnp.float32,
        )
        mixed = (mixed / total[..., None]).astype(value.dtype)
        return jnp.moveaxis(mixed, 3, 1).reshape(batch, length, heads, head_dim)

    def merge(self, mixed: jax.Array) -> jax.Array:
        """Project heads back into the residual stream, `[b t d]`."""
        y = jnp.einsum("bthk,hkd->btd", mixed, self.output[...].astype(self.dtype))
        return y if self.adapters is None else self.adapters.add("output", mixed, y)

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
            if isinstance(mask, Packing):
                mask = packed_mask(mask.segment_ids, mask.window)
            if mask is not None:
                scores = jnp.where(jnp.expand_dims(mask, 2), scores, -jnp.inf)
            arrays["attention"] = scores
        return {name: x for name, x in arrays.items() if name in names}

    def _scores(self, query: jax.Array, key: jax.Array) -> jax.Array:
        """Return scores `[b kv_heads heads/kv_heads t s]`, float32, before any mask."""
        batch, length, heads, head_dim = query.shape
        groups = key.shape[2]
        query = query.reshape(batch, length, groups, heads // groups, head_dim)
        scores = jnp.einsum(
            "btkgd,bskd->bkgts",
            query * self.scale,
            key,
            preferred_element_type=jnp.float32,
        )
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
        axis = "heads" if name == "query" else "kv_heads"
        return sharding.constrain(y, ("batch", None, axis, None))


def block_size(length: int) -> int:
    """Return the queries of a block, of rows of this length; 0 where rows are whole.

    On a CPU, 2 cores, float32, 4 heads of 48, forward and backward, blocks over whole
    rows by processor time: 1.0 at 256 tokens, 0.7 at 512, 0.2 at 2,048. Elsewhere a
    loop of small products leaves the device idle: for rows whose scores do not fit.
    """
    if length <= 128:
        return 0
    if sharding.platform() == "cpu":
        return 128
    return 512 if length > 4096 else 0


def causal(segment_ids: jax.Array, window: int | None = None) -> Mask:
    """Return what the queries of rows `[b t]` see, in the form that is best for them.

    Args:
      segment_ids: `[b t]`, the document of each token.
      window: as in `packed_mask`.
    """
    block = block_size(segment_ids.shape[1])
    if not block:
        return packed_mask(segment_ids, window)
    return blocked_attention.packing(segment_ids, window, block=block)


def packed_mask(segment_ids: jax.Array, window: int | None = None) -> jax.Array:
    """Causal mask within documents, `[b t t]`: query t may look at key s <= t.

    Args:
      segment_ids: `[b t]`, the document of each token.
      window: also demand `t - s < window` (Mistral); None is no limit.
    """
    length = segment_ids.shape[-1]
    same_document = jnp.expand_dims(segment_ids, -1) == jnp.expand_dims(segment_ids, -2)
    causal = jnp.tril(jnp.ones((length, length), bool))
    if window is not None:
        causal = jnp.triu(causal, 1 - window)
    return same_document & jnp.broadcast_to(causal, same_document.shape)
