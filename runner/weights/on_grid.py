"""Kernels of a `models.Quantized` as they are read: on their grids."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from models.base import Model
from models.quantized import wrapper
from models.quantized.grid import Grid
from runner.weights.tensors import StoredTensor, Tensors


def nearest(model: Callable[..., Model], tensors: Tensors) -> Tensors:
    """Return the kernels on their grids, all else as it is; nothing is read.

    Args:
      model: makes it.
      tensors: its arrays by path.
    """
    grids = wrapper.grids(model)
    if not grids:
        return tensors
    return {path: _on(grids, path, tensor) for path, tensor in tensors.items()}


def _on(grids: dict[str, Grid], path: str, tensor: StoredTensor) -> StoredTensor:
    grid = wrapper.grid_of(path, grids)
    if grid is None:
        return tensor

    def read() -> np.ndarray:
        return np.asarray(grid.nearest(jnp.asarray(tensor.read())))

    return StoredTensor(tensor.shape, tensor.dtype, read, tensor.cut_from)
