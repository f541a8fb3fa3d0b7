"""Weights of a model with adapters, as the model that it is without."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from models import layers
from models.adapters import low_rank
from models.base import Model, unwrapped
from models.lora import wrapper
from models.quantized.wrapper import Quantized
from runner.weights import on_grid
from runner.weights.base import Weights
from runner.weights.tensors import StoredTensor, Tensors


@dataclasses.dataclass(frozen=True)
class Merged:
    """A model that has no adapters.

    Attributes:
      model: makes it.
      tensors: its arrays by path, one a layer.
    """

    model: Callable[..., Model]
    tensors: Tensors


def merged(weights: Weights, *, as_read: bool = True) -> Merged:
    """Return a model's weights with its adapters in its kernels.

    Args:
      weights: of the model.
      as_read: whether the kernels of a `models.Quantized` are on their grids.
    """
    tensors = weights.tensors()
    if as_read:
        tensors = on_grid.nearest(weights.model, tensors)
    within = wrapper.within(weights.model) if has_any(tensors) else None
    if within is None:
        return Merged(unwrapped(weights.model, Quantized), tensors)
    plain = unwrapped(within.model, Quantized)
    return Merged(plain, in_kernels(tensors, scale=within.scale))


def has_any(paths: Iterable[str]) -> bool:
    """Return true where some of these are parameters of adapters."""
    return any(map(low_rank.is_of, paths))


def in_kernels(tensors: Tensors, *, scale: float) -> Tensors:
    """Return the kernels as `W + scale · A B`, all else as it is; nothing is read."""
    plain = {path: x for path, x in tensors.items() if not low_rank.is_of(path)}
    for path in tensors:
        if not (low_rank.is_of(path) and path.endswith("/a")):
            continue
        adapter = path.removesuffix("/a")
        owner, name = adapter.split(f"/{low_rank.NAME}/")
        kernel = f"{owner}/{name}"
        plain[kernel] = _sum(
            plain[kernel], tensors[path], tensors[f"{adapter}/b"], name, scale
        )
    return plain


def _sum(
    kernel: StoredTensor, a: StoredTensor, b: StoredTensor, name: str, scale: float
) -> StoredTensor:
    matrix = layers.kernel_axes(name)
    assert matrix is not None  # or it would have no adapter
    dtype = np.result_type(kernel.dtype, a.dtype)  # small changes are not rounded off

    def read() -> np.ndarray:
        wide = [x.read().astype(np.float32) for x in (a, b)]
        change = low_rank.product(*wide, inputs=len(matrix.inputs))
        return (kernel.read().astype(np.float32) + scale * change).astype(dtype)

    return StoredTensor(kernel.shape, dtype, read, kernel.cut_from)
