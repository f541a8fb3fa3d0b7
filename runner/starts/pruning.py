"""Cuts of a transformer's tensors to a smaller one's: layers kept, axes narrowed."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from runner.errors import UserError
from runner.starts.importance import Importance
from runner.weights.tensors import StoredTensor, Tensors, layer_of

Shapes = Mapping[str, tuple[int, ...]]

# The axes of each parameter by the end of its path.
_CHANNELS, _HEADS, _KV_HEADS, _NEURONS, _VOCABULARY = "dhkfv"
_AXES = {
    "embedding": "vd",
    "positions": ".d",
    "output": "vd",
    "factored_output": "v.",
    "head_factor": "d.",
    "attention/query": "dh.",
    "attention/key": "dk.",
    "attention/value": "dk.",
    "attention/output": "h.d",
    "attention/query_bias": "h.",
    "attention/key_bias": "k.",
    "attention/value_bias": "k.",
    "attention/output_bias": "d",
    "attention/sinks": "h",
    "attention/query_norm/scale": ".",
    "attention/key_norm/scale": ".",
    "mlp/gate": "df",
    "mlp/up": "df",
    "mlp/down": "fd",
    "mlp/gate_bias": "f",
    "mlp/up_bias": "f",
    "mlp/down_bias": "d",
    "mlp/router": "d.",
    "mlp/router_bias": ".",
    "mlp/shared/gate": "d.",
    "mlp/shared/up": "d.",
    "mlp/shared/down": ".d",
    "mlp/shared_gate": "d.",
    "norm/scale": "d",
    "norm/bias": "d",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a transformer.

    Attributes:
      layers: blocks.
      channels: of the residual stream.
      heads: of queries.
      kv_heads: of keys and values.
      neurons: of a feed-forward layer.
      vocabulary: entries.
    """

    layers: int
    channels: int
    heads: int
    kv_heads: int
    neurons: int
    vocabulary: int

    @classmethod
    def of(cls, shapes: Shapes) -> "Sizes":
        """Return those of parameters by path, a tensor a layer.

        Raises:
          UserError: they are not those of a `models.Transformer`.
        """
        try:
            vocabulary, channels = shapes["embedding"]
            return cls(
                layers=1 + max(map(layer_of, shapes)),
                channels=channels,
                heads=shapes["blocks/0/attention/query"][1],
                kv_heads=shapes["blocks/0/attention/key"][1],
                neurons=shapes["blocks/0/mlp/up"][-1],
                vocabulary=vocabulary,
            )
        except (KeyError, ValueError):
            raise UserError(
                "only the layers and widths of a models.Transformer can be cut"
            ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """Parts that stay of a larger model, by their numbers, ascending.

    Attributes:
      layers: in order; a number a layer of the smaller model.
      channels: of the residual stream.
      heads: by layer of the larger model, heads of queries.
      kv_heads: by layer, heads of keys and values.
      neurons: by layer.
      vocabulary: the first entries.
    """

    layers: Sequence[int]
    channels: np.ndarray
    heads: Sequence[np.ndarray]
    kv_heads: Sequence[np.ndarray]
    neurons: Sequence[np.ndarray]
    vocabulary: int


def evenly(count: int, of: int) -> list[int]:
    """Return `count` layers spread over `of`: every other one, if these are half."""
    return [index * of // count for index in range(count)]


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the `count` largest, ascending; of equals, the first."""
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def first(large: Sizes, small: Sizes, layers: Sequence[int]) -> Kept:
    """Return the first of each axis: nothing is measured."""
    group = large.heads // large.kv_heads
    heads = _in_groups(np.arange(small.kv_heads), small.heads // small.kv_heads, group)
    every = range(large.layers)
    return Kept(
        layers=layers,
        channels=np.arange(small.channels),
        heads=[heads for _ in every],
        kv_heads=[np.arange(small.kv_heads) for _ in every],
        neurons=[np.arange(small.neurons) for _ in every],
        vocabulary=small.vocabulary,
    )


def best(
    importance: Importance, large: Sizes, small: Sizes, layers: Sequence[int]
) -> Kept:
    """Return the most important of each axis.

    Heads that share keys and values stay together: whole groups are chosen by the sum
    of their heads, then as many heads in each of them as the smaller model has.
    """
    group = large.heads // large.kv_heads
    share = small.heads // small.kv_heads
    heads, kv_heads = [], []
    for scores in importance.heads:
        grouped = scores.reshape(large.kv_heads, group)
        groups = largest(grouped.sum(axis=1), small.kv_heads)
        within = [largest(grouped[g], share) + g * group for g in groups]
        heads.append(np.concatenate(within))
        kv_heads.append(groups)
    neurons = [np.arange(small.neurons) for _ in importance.heads]
    if importance.neurons is not None:
        neurons = [largest(scores, small.neurons) for scores in importance.neurons]
    return Kept(
        layers=layers,
        channels=largest(importance.channels, small.channels),
        heads=heads,
        kv_heads=kv_heads,
        neurons=neurons,
        vocabulary=small.vocabulary,
    )


def cut(tensors: Tensors, kept: Kept) -> dict[str, StoredTensor]:
    """Return the tensors of the smaller model by its paths; each is cut as it is read.

    Args:
      tensors: of the larger model, a tensor a layer.
      kept: what stays.
    """
    smaller: dict[str, StoredTensor] = {}
    new_layers: dict[int, list[int]] = {}
    for new, old in enumerate(kept.layers):
        new_layers.setdefault(old, []).append(new)
    factored = "factored_" if "head_factor" in tensors else ""
    for path, tensor in tensors.items():
        layer = layer_of(path)
        if layer < 0:
            role = f"{factored}{path}" if path == "output" else path
            smaller[path] = _cut(tensor, _selections(role, 0, kept, tensor))
            continue
        role = path.split("/", 2)[2]
        for new in new_layers.get(layer, []):
            selections = _selections(role, layer, kept, tensor)
            smaller[f"blocks/{new}/{role}"] = _cut(tensor, selections)
    return smaller


def _selections(
    role: str, layer: int, kept: Kept, tensor: StoredTensor
) -> list[np.ndarray]:
    """Return the numbers that stay of each axis of a tensor."""
    by_kind = {
        _CHANNELS: kept.channels,
        _HEADS: kept.heads[layer],
        _KV_HEADS: kept.kv_heads[layer],
        _NEURONS: kept.neurons[layer],
        _VOCABULARY: np.arange(kept.vocabulary),
    }
    ends = [end for end in _AXES if role == end or role.endswith(end)]
    kinds = _AXES[max(ends, key=len)] if ends else ""
    kinds = kinds.rjust(len(tensor.shape), ".")  # experts come first, and stay
    return [
        by_kind.get(kind, np.arange(length))
        for kind, length in zip(kinds, tensor.shape, strict=True)
    ]


def _cut(tensor: StoredTensor, selections: list[np.ndarray]) -> StoredTensor:
    shape = tuple(len(selection) for selection in selections)
    if shape == tensor.shape:
        return tensor

    def read() -> np.ndarray:
        return tensor.read()[np.ix_(*selections)]

    return StoredTensor(shape, tensor.dtype, read, cut_from=tensor.shape)


def _in_groups(groups: np.ndarray, share: int, group: int) -> np.ndarray:
    return (groups[:, None] * group + np.arange(share)).reshape(-1)
