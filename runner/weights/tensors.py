"""Tensors in files, read one at a time into their places on the devices."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from models.layers import STACKED

Tree = Any
BLOCKS = "blocks"


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """An array in a file.

    Attributes:
      shape: of the array.
      dtype: in which it is stored.
      read: reads it.
      cut_from: its shape before it was cut; None where it is whole.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]
    cut_from: tuple[int, ...] | None = None


Tensors = Mapping[str, StoredTensor]


def place(
    wanted: Mapping[str, jax.ShapeDtypeStruct], tensors: Tensors
) -> dict[str, jax.Array]:
    """Return each wanted array in its dtype and sharding.

    The largest comes first, while little else is held: above the arrays themselves, the
    peak is no more than one tensor.

    Args:
      wanted: by path.
      tensors: of these paths, in these shapes.
    """
    by_size = sorted(wanted, key=lambda path: -math.prod(wanted[path].shape))
    arrays = {path: _placed(tensors[path].read(), wanted[path]) for path in by_size}
    return {path: arrays[path] for path in wanted}


def _placed(array: np.ndarray, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """The array in its dtype and sharding; each device's part is cast on its own."""
    return jax.make_array_from_callback(
        leaf.shape, leaf.sharding, lambda part: array[part].astype(leaf.dtype)
    )


def unstacked(tensors: Tensors) -> dict[str, StoredTensor]:
    """Return the same tensors with those of stacked layers as one a layer."""
    separate: dict[str, StoredTensor] = {}
    for path, tensor in tensors.items():
        role = _role(path, STACKED)
        if role is None:
            separate[path] = tensor
            continue
        # Read once for all layers that are asked for in a row.
        whole = functools.lru_cache(maxsize=1)(tensor.read)
        for layer in range(tensor.shape[0]):
            separate[f"{BLOCKS}/{layer}/{role}"] = StoredTensor(
                tensor.shape[1:],
                tensor.dtype,
                lambda whole=whole, layer=layer: whole()[layer],
            )
    return separate


def stacked(tensors: Tensors) -> dict[str, StoredTensor]:
    """Return the same tensors with those of separate layers as one for all."""
    by_role: dict[str, list[StoredTensor]] = {}
    rest: dict[str, StoredTensor] = {}
    for path, tensor, role in _by_layer(tensors):
        if role is None:
            rest[path] = tensor
        else:
            by_role.setdefault(role, []).append(tensor)
    for role, layers in by_role.items():
        rest[f"{BLOCKS}/{STACKED}/{role}"] = StoredTensor(
            (len(layers), *layers[0].shape),
            layers[0].dtype,
            functools.partial(_stack, layers),
            layers[0].cut_from,
        )
    return rest


def num_layers(tensors: Tensors) -> int:
    """Return the number of layers of separate tensors."""
    return 1 + max((layer_of(path) for path in tensors), default=-1)


def layer_of(path: str) -> int:
    """Return the layer in a path, -1 outside of the blocks."""
    names = path.split("/")
    inside = len(names) > 2 and names[0] == BLOCKS and names[1].isdigit()
    return int(names[1]) if inside else -1


def _by_layer(tensors: Tensors) -> Iterator[tuple[str, StoredTensor, str | None]]:
    """Tensors in the order of their layers, each with its path within the layer."""
    for path in sorted(tensors, key=layer_of):
        layer = layer_of(path)
        role = None if layer < 0 else _role(path, str(layer))
        yield path, tensors[path], role


def _role(path: str, layer: str) -> str | None:
    prefix = f"{BLOCKS}/{layer}/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None


def _stack(layers: list[StoredTensor]) -> np.ndarray:
    out = np.empty((len(layers), *layers[0].shape), layers[0].dtype)
    for index, layer in enumerate(layers):
        out[index] = layer.read()
    return out
