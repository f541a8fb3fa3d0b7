"""Importance of a transformer's parts, from its activations over some rows.

A pure function of weights and rows. Means over all tokens that are no padding:

    layer l      1 - cos(x_l, x_{l+1})      block influence
    head h       ‖softmax(scores_h) v_h‖₂
    neuron f     |activation(gate)_f up_f|
    channel c    |norm(x)_c|, summed over the norms before sublayers

Sources: Men et al. 2024, ShortGPT (arXiv:2403.03853), equation 1; Muralidharan et al.
2024, Minitron (arXiv:2407.14679), section 2.2.
"""

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.base import Batch
from models.layers import SeparateLayers
from models.mlp import ACTIVATIONS, MLP, GatedMLP
from models.transformer import Transformer

_CAPTURED = frozenset({"hidden", "attention", "values"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """Importance by part, the larger the more.

    Attributes:
      layers: `[layer]`.
      channels: `[d]`, of the residual stream.
      heads: `[layer heads]`, of queries.
      neurons: `[layer hidden]`; None where the feed-forward layers are experts.
    """

    layers: np.ndarray
    channels: np.ndarray
    heads: np.ndarray
    neurons: np.ndarray | None


def measure(model: Transformer, batches: Iterable[Batch]) -> Importance:
    """Return the importance of the parts of `model` over the rows of `batches`.

    Args:
      model: of separate layers.
      batches: rows, as a model reads them.
    """
    graph, state = nnx.split(model)

    @jax.jit
    def sums(state: Any, batch: Batch) -> dict[str, Any]:
        return _sums(nnx.merge(graph, state), batch)

    total: Any = None
    for batch in batches:
        one = jax.device_get(sums(state, batch))
        one = jax.tree.map(np.float64, one)
        total = one if total is None else jax.tree.map(np.add, total, one)
    means = {name: x / total["tokens"] for name, x in total.items()}
    return Importance(
        layers=means["layers"],
        channels=means["channels"],
        heads=means["heads"],
        neurons=means.get("neurons"),
    )


def _sums(model: Transformer, batch: Batch) -> dict[str, jax.Array]:
    """Return sums over the tokens of a batch, in float32."""
    trunk = model.trunk(batch, capture=_CAPTURED).intermediates
    counted = (batch["segment_ids"] > 0).astype(jnp.float32)

    def total(values: jax.Array) -> jax.Array:  # [b t ...] to [...]
        values = values.astype(jnp.float32)
        return jnp.einsum("bt,bt...->...", counted, values)

    x = model.embed(batch["tokens"], batch["positions"])
    layers, heads, neurons = [], [], []
    channels = jnp.zeros(x.shape[-1], jnp.float32)
    for index, block in enumerate(typing.cast(SeparateLayers, model.blocks)):
        y = trunk["hidden"][:, :, index]
        layers.append(total(1.0 - _cosine(x, y)))
        mixed = _mixed(
            trunk["attention"][:, :, index],
            trunk["values"][:, :, index],
            block.attention.sinks,
        )
        heads.append(total(jnp.linalg.norm(mixed.astype(jnp.float32), axis=-1)))
        middle = block.add_attention(x, mixed.astype(x.dtype))
        before_mlp = block.read_by_mlp(x, middle)
        read = before_mlp if block.mlp_norm is None else block.mlp_norm(before_mlp)
        if isinstance(block.mlp, GatedMLP | MLP):
            neurons.append(total(jnp.abs(_neurons(block.mlp, read))))
        for norm, stream in ((block.attention_norm, x), (block.mlp_norm, before_mlp)):
            seen = stream if norm is None else norm(stream)
            channels = channels + total(jnp.abs(seen))
        x = y
    parts = {"layers": jnp.stack(layers), "heads": jnp.stack(heads)}
    if neurons:
        parts["neurons"] = jnp.stack(neurons)
    return {**parts, "channels": channels, "tokens": jnp.sum(counted)}


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    length = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1)
    return jnp.sum(x * y, axis=-1) / jnp.maximum(length, 1e-12)


def _mixed(scores: jax.Array, values: jax.Array, sinks: nnx.Param | None) -> jax.Array:
    """Return each head's weighted values `[b t heads head_dim]`."""
    rows, length, heads, _ = scores.shape
    groups = values.shape[2]
    if sinks is not None:  # one entry more of each softmax, whose value is 0
        of_heads = sinks[...].astype(scores.dtype)[:, None]
        extra = jnp.broadcast_to(of_heads, (*scores.shape[:-1], 1))
        scores = jnp.concatenate([scores, extra], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1)[..., :length]
    weights = weights.reshape(rows, length, groups, heads // groups, length)
    mixed = jnp.einsum("btkgs,bskd->btkgd", weights, values.astype(jnp.float32))
    return mixed.reshape(rows, length, heads, -1)


def _neurons(mlp: GatedMLP | MLP, x: jax.Array) -> jax.Array:
    if isinstance(mlp, MLP):
        return ACTIVATIONS[mlp.activation](mlp.before_activation(x))
    gate = x @ mlp.gate[...].astype(x.dtype)
    return ACTIVATIONS[mlp.activation](gate) * (x @ mlp.up[...].astype(x.dtype))
