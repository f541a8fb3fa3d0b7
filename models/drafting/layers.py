"""The layers of a draft, over the states of a trunk."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from models import masks, sharding
from models.attention import Attention
from models.base import Batch
from models.block import Block, Norms
from models.drafting import chain
from models.initializers import FAN_IN
from models.layer_attention import LayerAttention
from models.mlp import GatedMLP
from models.norms import RMSNorm

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class DraftLayer(nnx.Module):
    """A decoder layer over `M [n(z); n'(e)]`, or over z alone, and a norm after it.

    Args:
      dim: width of z, and of the embeddings e.
      num_heads: of queries.
      num_kv_heads: of keys and values.
      head_dim: features of a head.
      reads_tokens: whether there is e.
      dtype: of activations and products.
      param_dtype: of the parameters.
      rngs: of the initial values.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        reads_tokens: bool,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        def norm() -> RMSNorm:
            return RMSNorm(dim=dim, param_dtype=param_dtype, rngs=rngs)

        sublayer = {
            "dim": dim,
            "init": FAN_IN,
            "output_scale": 1 / math.sqrt(2),
            "dtype": dtype,
            "param_dtype": param_dtype,
            "rngs": rngs,
        }
        self.dtype = dtype
        self.state_norm = norm() if reads_tokens else None
        self.token_norm = norm() if reads_tokens else None
        self.mix = (
            _matrix(2 * dim, dim, dtype=param_dtype, rngs=rngs)
            if reads_tokens
            else None
        )
        self.block = Block(
            attention=Attention(
                num_heads=num_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                norm_eps=1e-6,
                **sublayer,
            ),
            mlp=GatedMLP(**sublayer),
            norms=(Norms(before=norm()), Norms(before=norm())),
        )
        self.norm = norm()

    def read(self, state: jax.Array, embedded: jax.Array) -> jax.Array:
        """Return what the layer reads, `[b t d]`, of z and e, `[b t d]` each."""
        if self.mix is None or self.state_norm is None or self.token_norm is None:
            return state
        both = [self.state_norm(state), self.token_norm(embedded)]
        joined = jnp.concatenate(both, axis=-1)
        return joined @ self.mix[...].astype(self.dtype)


class Draft(nnx.Module):
    """The layers of all steps, and what joins the hidden states that they read.

    Args:
      steps: K.
      form: as of `Drafted`.
      count: hidden states that are joined; 0 where it reads what the head does.
      heads: `num_heads`, `num_kv_heads` and `head_dim`.
      kind: whose rotary positions the layers have.
      dim: width of the states.
      dtype: of activations and products.
      param_dtype: of the parameters.
      rngs: of the initial values.
    """

    def __init__(
        self,
        *,
        steps: int,
        form: str,
        count: int,
        heads: dict[str, int],
        kind: LayerAttention,
        dim: int,
        dtype: str,
        param_dtype: str,
        rngs: nnx.Rngs,
    ):
        self.steps, self.form, self.kind = steps, form, kind
        self.head_dim, self.dtype = heads["head_dim"], dtype
        self.fuse = (
            _matrix(count * dim, dim, dtype=param_dtype, rngs=rngs) if count else None
        )
        self.layers = nnx.List(
            [
                DraftLayer(
                    dim=dim,
                    **heads,
                    reads_tokens=form != "parallel",
                    dtype=dtype,
                    param_dtype=param_dtype,
                    rngs=rngs,
                )
                for _ in range(1 if form == "recurrent" else steps)
            ]
        )

    def run(
        self, model: Any, batch: Batch, states: jax.Array, steps: int, wrap: Wrap
    ) -> list[jax.Array]:
        """Return the states of the first steps, normed: of token t, of target t + j.

        Args:
          model: whose embeddings and rotations it has.
          batch: of the trunk.
          states: that it reads, `[b t d]`, or `[b t count d]`.
          steps: how many.
          wrap: what remat makes of a layer.
        """
        if self.fuse is not None:
            states = states.reshape(*states.shape[:2], -1)
            states = states @ self.fuse[...].astype(self.dtype)
        segment_ids, positions = batch["segment_ids"], batch["positions"]
        mask = masks.causal(
            segment_ids, None, masks.Heads(width=self.head_dim, dtype=self.dtype)
        )
        results, earlier, state = [], [], states
        for j in range(steps):
            ahead = functools.partial(jnp.roll, shift=-(j + 1), axis=1)
            embedded = model.embed(ahead(batch["tokens"]), ahead(positions))
            is_again = self.form == "recurrent" and j > 0
            rotation = model.rotation(positions + (j if is_again else 0), self.kind)
            layer = self.layers[0 if self.form == "recurrent" else j]
            x = layer.read(states if self.form == "parallel" else state, embedded)
            if is_again:
                run = wrap(functools.partial(_again, layer.block))
                state, pair = run(x, rotation, earlier, segment_ids)
                earlier = [*earlier, pair]
            else:
                state, _ = wrap(layer.block)(x, rotation, mask)
                if self.form == "recurrent" and steps > 1:
                    earlier = [layer.block.project(x, rotation)[1:]]
            results.append(layer.norm(state))
        return results


def _again(
    block: Block,
    x: jax.Array,
    rotation: Any,
    earlier: list[chain.Pair],
    segment_ids: jax.Array,
) -> tuple[jax.Array, chain.Pair]:
    """Return the block's output of a later step, and its keys and values."""
    query, *pair = block.project(x, rotation)
    steps = [*earlier, tuple(pair)]
    query = query * block.attention.scale
    mixed = chain.attend(query, steps, segment_ids)
    return block.add(x, mixed)[0], steps[-1]


def _matrix(inputs: int, outputs: int, *, dtype: str, rngs: nnx.Rngs) -> nnx.Param:
    return sharding.parameter(
        FAN_IN, rngs, (inputs, outputs), axes=("embed", None), dtype=dtype
    )
