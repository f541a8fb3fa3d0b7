"""The kernels of a model that can be replaced or added to, by their paths."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from flax import nnx

from models import checks, layers
from models.adapters.low_rank import NAME
from models.base import Model
from models.layers import MatrixAxes
from models.lora import path_patterns
from models.lora.path_patterns import Patterns


class Kernel(NamedTuple):
    """A matrix of a model's block.

    Attributes:
      owner: the module that it is of.
      name: its attribute.
      param: itself.
      matrix: its axes.
    """

    owner: Any
    name: str
    param: nnx.Param
    matrix: MatrixAxes

    @property
    def inputs(self) -> tuple[int, int]:
        """First and last of the axes that a product sums over."""
        end = len(self.param.shape) - len(self.matrix.outputs)
        return end - len(self.matrix.inputs), end


def of(model: Model) -> dict[str, Kernel]:
    """Return the kernels that can have adapters, by path."""
    kernels = {}
    for path, module in nnx.iter_modules(model):
        for name, param in vars(module).items() if hasattr(module, NAME) else ():
            matrix = layers.kernel_axes(name)
            if matrix is not None and isinstance(param, nnx.Param):
                where = "/".join(map(str, (*path, name)))
                kernels[where] = Kernel(module, name, param, matrix)
    return kernels


def targeted(kernels: Iterable[str], targets: Patterns) -> list[str]:
    """Return the kernels that match, in order.

    Raises:
      ValueError: a pattern matches none, or they leave none.
    """
    kernels = list(kernels)
    if not kernels:
        raise ValueError("targets: the model has no kernel that can have an adapter")
    lost = path_patterns.unmatched(kernels, targets)
    if lost is not None:
        places = {f"*/{role(path).partition('/')[2]}" for path in kernels}
        raise ValueError(
            f"targets: no kernel matches {lost!r}{checks.nearest(lost, places)}"
        )
    chosen = path_patterns.chosen(kernels, targets)
    if not chosen:
        raise ValueError(f"targets: {targets!r} leaves no kernel")
    return [path for path in kernels if path in chosen]


def role(path: str) -> str:
    """Return a path without its layer: `blocks/mlp/up`."""
    names = path.split("/")
    return "/".join(x for x in names if not (x.isdigit() or x == layers.STACKED))
