"""Logical axis names of parameters, and rules that map them to mesh axes.

A model names the axes of its parameters (`("embed", "mlp")`) and of a few activations;
`Rules` map each name to mesh axes. One device and a thousand run the same code: without
a context, or on a mesh of one device, nothing here does anything.

An axis whose size its mesh axes do not divide is replicated, and a mesh axis serves at
most one axis of an array (the first that names it).
"""

import contextlib
import contextvars
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from jax.core import Tracer
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from models.initializers import Initializer

Axes = Sequence[str | None]
Rules = Mapping[str, tuple[str, ...]]

RULES: Rules = {
    "batch": ("data", "fsdp", "expert"),
    "embed": ("fsdp",),
    "mlp": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "vocab": ("tensor",),
    "expert": ("expert",),
}


@dataclasses.dataclass(frozen=True)
class Context:
    """Mesh and rules in force; hashable, so that it can be a static argument."""

    mesh: Mesh
    rules: tuple[tuple[str, tuple[str, ...]], ...]


_CONTEXT: contextvars.ContextVar[Context | None] = contextvars.ContextVar(
    "sharding", default=None
)


def current() -> Context | None:
    """Return the context of the innermost `use`, if any."""
    return _CONTEXT.get()


@contextlib.contextmanager
def use(mesh: Mesh | None, rules: Rules = RULES) -> Iterator[None]:
    """Constrain activations over `mesh` by `rules` while tracing inside."""
    context = None if mesh is None else Context(mesh, _freeze(rules))
    token = _CONTEXT.set(context)
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def parameter(
    init: Initializer,
    rngs: nnx.Rngs,
    shape: Sequence[int],
    *,
    axes: Axes,
    dtype: str,
    fan: tuple[int, int] | None = None,
) -> nnx.Param:
    """Create a parameter with logical axis names.

    Args:
      init: fills the array.
      rngs: one `params` key is drawn.
      shape: of the array.
      axes: a name or None for each axis.
      dtype: of the array.
      fan: sizes of the matrix that `init` fills, for parameters whose matrix takes
        more than two axes (`[embed, heads, head_dim]`). The leading axes that are
        left are independent draws.

    Raises:
      ValueError: if `axes` and `shape` differ in length.
    """
    if len(axes) != len(shape):
        raise ValueError(f"axes must name every axis of {shape}, got {axes}")
    key, count = _next(rngs.params)
    traced = isinstance(key, Tracer) and _hashable(init)
    draw = _draw_once_traced if traced else _draw
    value = draw(init, key, count, tuple(shape), fan, dtype)
    return nnx.Param(value, axes=tuple(axes))


def _next(stream: nnx.RngStream) -> tuple[jax.Array, jax.Array]:
    """Take what `stream()` would fold into one key: its own key, and the count.

    Counting with `count[...] += 1`, flax asks tracers for a `sharding`, and JAX says at
    length, with the trace in print, that they have none: most of a model's trace.
    """
    key, count = stream.key[...], stream.count[...]
    stream.count.set_value(count + 1)
    return key, count


def _draw(init, key, count, shape, fan, dtype) -> jax.Array:
    key = jax.random.fold_in(key, count)
    if fan is None:
        return init(key, shape, dtype)
    draws = math.prod(shape) // math.prod(fan)
    keys = jax.random.split(key, draws)
    return jax.vmap(lambda k: init(k, fan, dtype))(keys).reshape(shape)


# The trace of one parameter serves all that are alike; most of a model's goes there.
_draw_once_traced = jax.jit(_draw, static_argnums=(0, 3, 4, 5), inline=True)


def _hashable(init: Initializer) -> bool:
    try:
        hash(init)
    except TypeError:
        return False
    return True


def partition_spec(
    axes: Axes,
    rules: Rules = RULES,
    *,
    shape: Sequence[int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> PartitionSpec:
    """Return the partition of an array with these logical axes.

    Args:
      axes: logical axis names of the array.
      rules: mesh axes by logical axis name.
      shape: of the array.
      sizes: of the mesh axes; with `shape` too, axes that do not divide are
        replicated.
    """
    used: set[str] = set()
    entries: list[tuple[str, ...] | str | None] = []
    for position, name in enumerate(axes):
        targets = () if name is None else rules.get(name, ())
        targets = [axis for axis in targets if axis not in used]
        # Without sizes the rule stands as it is; with them, what does not divide goes.
        if sizes is not None:
            targets = [axis for axis in targets if sizes.get(axis, 1) > 1]
            if shape is not None and shape[position] % _product(sizes, targets):
                targets = []
        used.update(targets)
        entries.append(
            tuple(targets) if len(targets) > 1 else next(iter(targets), None)
        )
    # JAX compares partitions by their entries: `P("x", None)` is not `P("x")`.
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def on_one_device() -> bool:
    """Return true without a mesh, or on one of a single device."""
    context = _CONTEXT.get()
    return context is None or context.mesh.size == 1


def platform() -> str:
    """Return the platform of the mesh in force, planned or not; else JAX's own.

    `cpu` or `tpu`; `cuda` for NVIDIA's GPUs since Ampere (compute capability 8), `gpu`
    for others.
    """
    context = _CONTEXT.get()
    device = jax.devices()[0] if context is None else context.mesh.devices.flat[0]
    if device.platform != "gpu":
        return device.platform
    capability = str(getattr(device, "compute_capability", ""))  # AMD: `gfx90a`
    return "cuda" if re.match(r"[89]\.|\d\d", capability) else "gpu"


def constrain(x: jax.Array, axes: Axes) -> jax.Array:
    """Constrain `x` to the sharding that the rules in force give `axes`.

    Inside `jax.shard_map` the constraint names the automatic mesh axes only: `x` is
    already local along the manual ones.
    """
    context = _CONTEXT.get()
    if context is None:
        return x
    mesh = ambient_mesh(context)
    sizes = {a: mesh.shape[a] for a in mesh.axis_names if a not in mesh.manual_axes}
    rules = {name: tuple(a for a in to if a in sizes) for name, to in context.rules}
    spec = partition_spec(axes, rules, shape=x.shape, sizes=sizes)
    if not sizes or _product(sizes, sizes) == 1:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def mesh_axes(name: str, size: int, context: Context) -> tuple[str, ...]:
    """Return the mesh axes that shard a logical axis of this name and size."""
    spec = partition_spec(
        (name,), dict(context.rules), shape=(size,), sizes=context.mesh.shape
    )
    entry = spec[0] if spec else None
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def vary(x: jax.Array, axes: Iterable[str]) -> jax.Array:
    """Return `x`, typed as varying along these manual mesh axes."""
    missing = set(axes) - jax.typeof(x).manual_axis_type.varying
    return jax.lax.pcast(x, tuple(sorted(missing)), to="varying") if missing else x


def ambient_mesh(context: Context) -> Mesh | AbstractMesh:
    """Return the mesh that traced code sees; inside `shard_map` it has manual axes."""
    abstract = jax.sharding.get_abstract_mesh()
    return abstract if abstract.manual_axes else context.mesh


def parameter_shardings(state: Any, mesh: Mesh, rules: Rules = RULES) -> Any:
    """Return the tree of `nnx.to_pure_dict(state)` with a `NamedSharding` a leaf.

    Args:
      state: an `nnx.State` of real or abstract variables; one without logical axes is
        replicated.
      mesh: of the shardings.
      rules: mesh axes by logical axis name.
    """
    sizes = dict(mesh.shape)

    def place(variable: nnx.Variable) -> NamedSharding:
        shape = variable.get_value().shape
        axes = variable.get_metadata().get("axes", (None,) * len(shape))
        return NamedSharding(
            mesh, partition_spec(axes, rules, shape=shape, sizes=sizes)
        )

    shardings = jax.tree.map(
        place, state, is_leaf=lambda x: isinstance(x, nnx.Variable)
    )
    return nnx.to_pure_dict(shardings)


def _freeze(rules: Rules) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(sorted((name, tuple(axes)) for name, axes in rules.items()))


def _product(sizes: Mapping[str, int], axes: Any) -> int:
    total = 1
    for axis in axes:
        total *= sizes.get(axis, 1)
    return total
