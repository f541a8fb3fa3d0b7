"""Multi-head latent attention."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks, rope, sharding
from models.attention import Attention, Projections, Rotation
from models.initializers import Initializer, Scaled
from models.norms import RMSNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latents:
    """Widths of multi-head latent attention (`Transformer.latents`).

    Attributes:
      kv_rank: of the latent of keys and values.
      query_rank: of the latent of queries; None: they are made of the stream itself.
      plain_dim: features of a head's queries and keys that are not rotated.
      rope_dim: features that are, after the plain ones; all heads share the keys'.
      value_dim: features of a head's values.
      norm_eps: `eps` of the norms of latents.

    Source: DeepSeek-V2 (arXiv:2405.04434), section 2.1.
    """

    kv_rank: int
    query_rank: int | None = None
    plain_dim: int
    rope_dim: int
    value_dim: int
    norm_eps: float = 1e-6

    def __post_init__(self):
        checks.positive(
            kv_rank=self.kv_rank,
            query_rank=self.query_rank,
            plain_dim=self.plain_dim,
            value_dim=self.value_dim,
            norm_eps=self.norm_eps,
        )
        rope.check_width(self.rope_dim, self.rope_dim)

    @property
    def head_dim(self) -> int:
        """Features of a head's queries and keys."""
        return self.plain_dim + self.rope_dim


class LatentAttention(Attention):
    """Attention whose keys and values are products of one short vector a token.

        [c, r] = x W_latent,  [k, v]_h = norm(c) W_h
        q_h = norm(x W_query_latent) W_query,h
        score_h = q_h · [k_h, rotated r] · scale

    The last features of a query are rotated; `r` is that of all heads.

    Source: DeepSeek-V2 (arXiv:2405.04434), equations 9 to 19.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        latents: Latents,
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
        self.latents = latents
        self.rope_layout = rope_layout
        self.scale = 1 / math.sqrt(latents.head_dim) if scale is None else scale
        self.soft_cap = soft_cap
        self.dtype = dtype
        self.output_bias = self.sinks = None

        def kernel(init: Initializer, shape: tuple, axes: tuple, fan: tuple):
            return sharding.parameter(
                init, rngs, shape, axes=axes, dtype=param_dtype, fan=fan
            )

        def down(rank: int) -> nnx.Param:
            return kernel(init, (dim, rank), ("embed", None), (dim, rank))

        def into_heads(inputs: int, width: int, axis: str | None, name: str):
            fan, shape = (inputs, num_heads * width), (inputs, num_heads, width)
            return kernel(init, shape, (axis, name, None), fan)

        def norm(rank: int) -> RMSNorm:
            return RMSNorm(
                dim=rank,
                eps=latents.norm_eps,
                offset=norm_offset,
                param_dtype=param_dtype,
                rngs=rngs,
            )

        # Queries, of a latent or of the stream.
        rank, width = latents.query_rank, latents.head_dim
        direct = into_heads(dim, width, "embed", "heads") if rank is None else None
        self.query: Any = direct
        self.query_latent: Any = down(rank) if rank else None
        self.query_latent_norm: Any = norm(rank) if rank else None
        self.query_up: Any = into_heads(rank, width, None, "heads") if rank else None
        # The latent of keys and values beside the rotated features, then both of them.
        self.latent = down(latents.kv_rank + latents.rope_dim)
        self.latent_norm = norm(latents.kv_rank)
        both = latents.plain_dim + latents.value_dim
        self.key_value = into_heads(latents.kv_rank, both, None, "kv_heads")
        # Back into the residual stream.
        self.output = kernel(
            Scaled(init, output_scale),
            (num_heads, latents.value_dim, dim),
            ("heads", None, "embed"),
            (num_heads * latents.value_dim, dim),
        )

    def project(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Queries and keys `[b t heads head_dim]`, values `[b t heads value_dim]`."""
        plain = self.latents.plain_dim
        query, latent, rotated = self._rotated(x, rotation)
        both = self._heads(latent, "key_value", self.key_value, None)
        key, value = both[..., :plain], both[..., plain:]
        rotated = jnp.broadcast_to(rotated, (*key.shape[:-1], rotated.shape[-1]))
        return query, jnp.concatenate([key, rotated], axis=-1), value

    def project_cached(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Queries `[b t heads kv_rank+rope_dim]`, latents `[b t 1 kv_rank+rope_dim]`.

        `q · (c W) = (q Wᵀ) · c`: keys and values are not made of latents, and a cache
        holds these alone. The third array has no features.
        """
        plain = self.latents.plain_dim
        query, latent, rotated = self._rotated(x, rotation)
        keys, _ = self._kernels()
        absorbed = jnp.einsum("bthk,rhk->bthr", query[..., :plain], keys)
        query = jnp.concatenate([absorbed, query[..., plain:]], axis=-1)
        held = jnp.concatenate([jnp.expand_dims(latent, -2), rotated], axis=-1)
        return query, held, held[..., :0]

    def attend_cached(
        self, query: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array
    ) -> jax.Array:
        """Return weighted values `[b t heads value_dim]`, of latents in `keys`."""
        del values
        # The rotated features are weighted too and then cut off: a cut of the cache
        # would copy it.
        mixed = super().attend_cached(query, keys, keys, mask)
        _, kernel = self._kernels()
        return jnp.einsum("bthr,rhv->bthv", mixed[..., : self.latents.kv_rank], kernel)

    def _rotated(self, x: jax.Array, rotation: Rotation | None) -> Projections:
        """Return queries, latents `[b t r]` and the rotated features `[b t 1 f]`."""
        plain, rank = self.latents.plain_dim, self.latents.kv_rank
        query = self._queries(x)
        latent = self._down("latent", x, self.latent)
        rotated = jnp.expand_dims(latent[..., rank:], -2)
        latent = self.latent_norm(latent[..., :rank])
        if rotation is not None:
            turned = rope.rotate(query[..., plain:], rotation, layout=self.rope_layout)
            query = jnp.concatenate([query[..., :plain], turned], axis=-1)
            rotated = rope.rotate(rotated, rotation, layout=self.rope_layout)
        return query, latent, rotated

    def _kernels(self) -> tuple[jax.Array, jax.Array]:
        """Return what makes keys and values of latents, `[kv_rank heads width]`."""
        kernel = self.key_value[...]
        if self.adapters is not None:
            kernel = self.adapters.merged("key_value", kernel)
        kernel, plain = kernel.astype(self.dtype), self.latents.plain_dim
        return kernel[..., :plain], kernel[..., plain:]

    def _queries(self, x: jax.Array) -> jax.Array:
        """Return queries `[b t heads head_dim]` before rotation."""
        if self.query is not None:
            return self._heads(x, "query", self.query, None)
        latent = self._down("query_latent", x, self.query_latent)
        return self._heads(
            self.query_latent_norm(latent), "query_up", self.query_up, None
        )

    def _down(self, name: str, x: jax.Array, kernel: nnx.Param) -> jax.Array:
        y = jnp.einsum("btd,dr->btr", x, kernel[...].astype(self.dtype))
        return y if self.adapters is None else self.adapters.add(name, x, y)
