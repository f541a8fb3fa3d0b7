"""A model whose kernels are read on a grid, and trained as they are."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import nnx

from models import checks, layers
from models.base import Model
from models.lora import kernels
from models.lora.kernels import Kernel
from models.lora.path_patterns import Patterns
from models.quantized.grid import LARGEST, Grid, straight_through

EVERY = "*"


class QuantizedParam(nnx.Param):
    """A parameter that is read on `grid`, an entry of its metadata."""

    def __getitem__(self, key: Any) -> Any:
        return straight_through(self.get_value(), self.get_metadata()["grid"])[key]


def Quantized(
    *,
    model: Callable[..., Model],
    weights: Literal["int8", "int4", "fp8"] = "int8",
    block: int | None = None,
    scale_dtype: Literal["float32", "float16"] = "float32",
    targets: Patterns = EVERY,
    rngs: nnx.Rngs,
) -> Model:
    """Return `model` with `x Q(W)` in place of `x W`, and `∂Q(W)/∂W = 1`.

    `Q(w) = s q`, one scale for all inputs of an output, or for `block` of them:

        s = max |w| / 127.5,  q = clip(round(w / s), -127, 127)       int8
        s = max |w| / 7.5,    q = clip(round(w / s), -7, 7)           int4
        s = max |w| / 448,    q = w / s as float8_e4m3fn              fp8

    Parameters keep their paths and initial values, in full precision; the optimiser
    moves those, and the model reads them on the grid, in evaluations and as a teacher
    too. `runner-export` writes the values on the grid. Activations stay as they are,
    and so do embedding, head, norms and biases.

    Args:
      model: called with `rngs=`.
      weights: the numbers of the grid.
      block: inputs that share a scale; None for all of an output.
      scale_dtype: of the scales; blocks of 32 integers with scales in float16 are Q8_0
        and Q4_0 of a `.gguf` file.
      targets: patterns of the paths of kernels, as of `LoRA`: matrices of attention,
        feed-forward layers, routers and experts.
      rngs: of the initial values.

    Raises:
      ValueError: a word is none of these, a pattern matches no kernel, blocks do not
        divide the inputs of one, or the model has adapters: they go around this one.

    Source: Jacob et al. 2017 (arXiv:1712.05877), section 3; scales and ties are those
    of `qwix` 0.1.8 (`quantize` and `dequantize`, `absmax`), which has -128 and -8 too,
    for the largest of a scale if it is negative and a rounding error says so.
    """
    checks.one_of("weights", weights, LARGEST)
    checks.one_of("scale_dtype", scale_dtype, ("float32", "float16"))
    checks.positive(block=block)
    quantized = model(rngs=rngs)
    if quantized.trainable is not None:
        raise ValueError("the model has adapters: write LoRA(model=Quantized(...))")
    every = kernels.of(quantized)
    for path in kernels.targeted(every, targets):
        kernel = every[path]
        inputs, outputs = (len(x) for x in kernel.matrix)
        grid = Grid(weights, block, scale_dtype, inputs, outputs)
        try:
            jax.eval_shape(grid.nearest, kernel.param.get_value())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        setattr(kernel.owner, kernel.name, _read_on(grid, kernel))
    return quantized


def has_any(model: Model) -> bool:
    """Return true for a model with kernels on a grid."""
    return bool(nnx.to_flat_state(nnx.state(model, QuantizedParam)))


def grids(make: Callable[..., Model]) -> dict[str, Grid]:
    """Return the grids of a model's kernels by path; none of a model without."""
    if not _is_within(make):
        return {}
    model = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    flat = nnx.to_flat_state(nnx.state(model, QuantizedParam))
    return {"/".join(map(str, path)): x.get_metadata()["grid"] for path, x in flat}


def grid_of(path: str, grids: dict[str, Grid]) -> Grid | None:
    """Return the grid of a kernel of one layer, whether layers are stacked or not."""
    stacked = [layers.STACKED if x.isdigit() else x for x in path.split("/")]
    return grids.get(path) or grids.get("/".join(stacked))


def _is_within(make: Any) -> bool:
    while isinstance(make, functools.partial):
        if make.func is Quantized:
            return True
        make = make.keywords.get("model")
    return False


def _read_on(grid: Grid, kernel: Kernel) -> QuantizedParam:
    metadata = kernel.param.get_metadata()
    return QuantizedParam(kernel.param.get_value(), **metadata, grid=grid)
