"""Matmul FLOPs of a jaxpr, loop trip counts included.

`compiled.cost_analysis()` counts the body of a loop once, which for a scan over token
blocks or layers is off by the number of them; the jaxpr knows the trip counts.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.interpreters import partial_eval

from models.kernels import cudnn_attention, loops

PEAK: dict[str, float] = {
    "NVIDIA A100": 312e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v6 lite": 918e12,
}
"""Dense bfloat16 FLOP/s of one chip, from the vendors' data sheets, by kind."""


_MANUAL = ("newly_manual_axes", "manual_axes")  # of a `shard_map`, by jax's version


def peak(device: Any) -> float | None:
    """The chip's dense bfloat16 FLOP/s, or None where it is not known."""
    return peak_of_kind(device.device_kind)


def peak_of_kind(device_kind: str) -> float | None:
    """The same by what jax calls the kind; a v5p is `TPU v5`."""
    kinds = [kind for kind in PEAK if device_kind.startswith(kind)]
    return PEAK[max(kinds, key=len)] if kinds else None


def matmul_flops(fn: Callable, *args: Any) -> int:
    """Multiplications and additions in the matmuls of `fn(*args)`, on all devices.

    Args may be arrays or `jax.ShapeDtypeStruct`s. What no output depends on does not
    count: the compiler leaves it out. Of a `cond` the costliest branch counts; of a
    `while` the trips that `models.kernels.loops` expects, or one.
    """
    return of_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr)


def of_jaxpr(jaxpr: Any) -> int:
    """Return the same of a jaxpr."""
    return _flops(live(jaxpr))


def live(jaxpr: Any) -> Any:
    """The jaxpr without what no output depends on, in loops too."""
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]


def is_lower_bound(fn: Callable, *args: Any) -> bool:
    """Return true if a matmul of `fn(*args)` is in a loop of data-dependent length."""
    return _in_open_loop(jax.make_jaxpr(fn)(*args).jaxpr)


def _in_open_loop(jaxpr: Any) -> bool:
    equations = [e for e in jaxpr.eqns if _expected_trips(e) is None]
    return any(
        equation.primitive.name == "while" and _of_equation(equation) > 0
        for equation in equations
    ) or any(
        _in_open_loop(inner)
        for equation in equations
        for inner in inner_jaxprs(equation.params)
    )


def _flops(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    # Products themselves: two operations for each term of their sums.
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval
        depth = math.prod(left.shape[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    if name == "ragged_dot_general":
        numbers = params["ragged_dot_dimension_numbers"]
        left, right = (x.aval.shape for x in equation.invars[:2])
        (_, contracted), (_, batched) = numbers.dot_dimension_numbers
        paired = {*contracted, *batched, *numbers.rhs_group_dimensions}
        free = math.prod(n for axis, n in enumerate(right) if axis not in paired)
        return 2 * math.prod(left) * free
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        channels = params["dimension_numbers"].rhs_spec[0]
        out = math.prod(equation.outvars[0].aval.shape)
        return 2 * out * math.prod(kernel) // kernel[channels]

    if name in cudnn_attention.PRODUCTS:
        shape, window = equation.invars[0].aval.shape, params["sliding_window_length"]
        return cudnn_attention.flops(name, shape, window=window)

    # What holds others: branches, bodies, callees.
    inner = [_flops(jaxpr) for jaxpr in inner_jaxprs(params)]
    if name == "cond":
        return max(inner)
    trips = _expected_trips(equation)
    return (
        sum(inner) * _times(name, params)
        if trips is None
        else round(sum(inner) * trips)
    )


def _expected_trips(equation: Any) -> float | None:
    name = equation.params.get("name")
    return loops.expected(name) if isinstance(name, str) else None


def _times(name: str, params: dict[str, Any]) -> int:
    if name == "scan":
        return params["length"]
    if name == "shard_map":
        named = [params[key] for key in _MANUAL if key in params]
        manual = named[0] if named else params["mesh"].axis_names
        return math.prod(params["mesh"].shape[axis] for axis in manual)
    return 1


def inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters: bodies, branches, callees."""
    for value in params.values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
