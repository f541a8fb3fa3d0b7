"""A model whose kernels have low-rank adapters, and train nothing else."""

import functools
import inspect
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks
from models.adapters.low_rank import NAME, Adapters, LowRank
from models.base import Model
from models.initializers import FanIn, Initializer
from models.lora import kernels
from models.lora.kernels import Kernel
from models.lora.path_patterns import Patterns
from models.tags import DTYPES, ParamDType

ATTENTION = "*/attention/*"
UNIFORM = FanIn(scale=1 / 3)
"""The variance of `A` in peft, which draws uniformly from ±1/√inputs."""


def LoRA(
    *,
    model: Callable[..., Model],
    rank: int = 8,
    alpha: float = 16.0,
    targets: Patterns = ATTENTION,
    init: Initializer = UNIFORM,
    adapter_dtype: Annotated[str, ParamDType] = "float32",
    rngs: nnx.Rngs,
) -> Model:
    """Return `model` with `x W + alpha/rank · (x A) B` in place of `x W`.

    `B` begins at zero: until the first step the model computes what it does without,
    bit for bit. Its own parameters keep their paths and initial values, and are frozen
    unless `Experiment.trainable` says otherwise. The adapters of
    `blocks/3/attention/query` are `blocks/3/attention/adapters/query/a` and `b`.

    Args:
      model: called with `rngs=`.
      rank: columns of `A`, and rows of `B`.
      alpha: of the scale `alpha / rank`.
      targets: patterns of the paths of kernels, as in `Experiment.trainable`: the
        matrices of attention, feed-forward layers, routers and experts; no embedding,
        and no head. Adapters of experts are added to their kernels, for one product
        with both.
      init: of `A`.
      adapter_dtype: type in which adapters are stored and updated.
      rngs: of the initial values.

    Raises:
      ValueError: a number is not positive, or a pattern matches no kernel.

    Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1.
    """
    checks.positive(rank=rank, alpha=alpha)
    checks.one_of("adapter_dtype", adapter_dtype, DTYPES)
    adapted = model(rngs=rngs)
    if adapted.trainable is not None:
        raise ValueError("model has adapters already")
    every, key = kernels.of(adapted), rngs.params()
    targeted = {path: every[path] for path in kernels.targeted(every, targets)}
    draws = _draws(targeted, init, key, rank=rank, dtype=adapter_dtype)
    for path, kernel in targeted.items():
        if kernel.owner.adapters is None:
            kernel.owner.adapters = Adapters()
        adapter = _adapter(kernel, draws[path], scale=alpha / rank)
        setattr(kernel.owner.adapters, kernel.name, adapter)
    adapted.trainable = f"*/{NAME}/*"
    return adapted


class Within(NamedTuple):
    """Parts of a `LoRA`.

    Attributes:
      model: without adapters.
      rank: of the adapters.
      alpha: likewise.
      scale: `alpha / rank`.
    """

    model: Callable[..., Model]
    rank: int
    alpha: float
    scale: float


def within(make: Callable[..., Model]) -> Within | None:
    """Return what a `functools.partial` of `LoRA` wraps; None of another model."""
    fields: dict[str, Any] = {}
    while isinstance(make, functools.partial):
        fields = {**make.keywords, **fields}
        make = make.func
    if make is not LoRA:
        return None
    bound = inspect.signature(LoRA).bind_partial(**fields)
    bound.apply_defaults()
    rank, alpha = bound.arguments["rank"], bound.arguments["alpha"]
    return Within(bound.arguments["model"], rank, alpha, alpha / rank)


def _adapter(kernel: Kernel, a: jax.Array, *, scale: float) -> LowRank:
    """Return the adapter of a kernel with this `A`, `[*n inputs rank]`."""
    shape, axes = tuple(kernel.param.shape), kernel.param.get_metadata()["axes"]
    begin, end = kernel.inputs
    rank = a.shape[-1]
    b = jnp.zeros((*shape[:begin], rank, *shape[end:]), a.dtype)
    return LowRank(
        nnx.Param(a.reshape(*shape[:end], rank), axes=(*axes[:end], None)),
        nnx.Param(b, axes=(*axes[:begin], None, *axes[end:])),
        inputs=end - begin,
        scale=scale,
    )


def _draws(
    targeted: Mapping[str, Kernel],
    init: Initializer,
    key: jax.Array,
    *,
    rank: int,
    dtype: str,
) -> dict[str, jax.Array]:
    """Return `A [*n inputs rank]` of each kernel.

    Its key is that of its place in a layer, then of the layer: the same however layers
    are held, and whatever other adapters there are. Those of one place are drawn at
    once: of thirty layers the compiler sees one.
    """
    by_place: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for path, kernel in targeted.items():
        place = kernels.role(path), tuple(kernel.param.shape)
        by_place.setdefault(place, []).append(path)
    draws = {}
    for (role, shape), paths in by_place.items():
        begin, end = targeted[paths[0]].inputs
        draw = functools.partial(
            _draw,
            init,
            matrix=(math.prod(shape[begin:end]), rank),
            dtype=dtype,
        )
        role_key = jax.random.fold_in(key, zlib.crc32(role.encode()))
        layers_of = [int(x) for path in paths for x in path.split("/") if x.isdigit()]
        if layers_of:
            numbers = [jnp.array(layers_of), *map(jnp.arange, shape[:begin])]
            draws |= zip(paths, draw(role_key, numbers), strict=True)
        else:
            draws[paths[0]] = draw(role_key, [*map(jnp.arange, shape[:begin])])
    return draws


def _draw(
    init: Initializer,
    key: jax.Array,
    numbers: Sequence[jax.Array],
    *,
    matrix: tuple[int, int],
    dtype: str,
) -> jax.Array:
    """Return matrices `[*numbers inputs rank]`, each of a key of its own."""
    if not numbers:
        return init(key, matrix, dtype)
    draw = functools.partial(_draw, init, matrix=matrix, dtype=dtype)
    first, *rest = numbers
    return jax.vmap(lambda n: draw(jax.random.fold_in(key, n), rest))(first)
