"""Keys that are derived from others on the host: nothing is compiled for them.

JAX derives a key by a program of its own for each kind: `fold_in`, `split`, the counts
between. Of a Threefry key both are the pair that `random_bits.pair` gives, at the
number that is folded in and at the key's place among those split off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import eval_jaxpr
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from runner.state import random_bits


def evaluate(jaxpr: Jaxpr, consts: Sequence[Any], *arguments: Any) -> list[Any]:
    """Return the results of equations that derive keys, as `jax.core.eval_jaxpr`."""
    values = dict(
        zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True)
    )

    def value(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for equation in jaxpr.eqns:
        inputs = [value(x) for x in equation.invars]
        if (rule := _RULES.get(equation.primitive.name)) and _on_host(equation):
            results = [rule(*inputs, **equation.params)]
        else:
            variables = [x for x in equation.invars if not isinstance(x, Literal)]
            alone = jaxpr.replace(
                constvars=[],
                invars=variables,
                eqns=[equation],
                outvars=equation.outvars,
                debug_info=jaxpr.debug_info.with_unknown_names(),
            )
            results = eval_jaxpr(alone, (), *map(value, variables))
        values.update(zip(equation.outvars, results, strict=True))
    return [value(x) for x in jaxpr.outvars]


def _on_host(equation: JaxprEqn) -> bool:
    """Return whether it counts, or derives keys whose pairs are known."""
    result: Any = equation.outvars[0].aval
    dtype = str(result.dtype)
    return dtype in ("uint32", "int32") or random_bits.by_index(dtype, 32)


def _fold_in(keys: Any, numbers: Any) -> jax.Array:
    numbers = np.asarray(numbers).astype(np.uint32)
    return _derived(keys, _words(keys), numbers)


def _split(keys: Any, *, shape: Sequence[int]) -> jax.Array:
    places = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    words = _words(keys).reshape(*np.shape(keys), *[1] * len(shape), 2)
    return _derived(keys, words, places)


def _words(keys: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(keys))


def _derived(keys: Any, words: np.ndarray, numbers: np.ndarray) -> jax.Array:
    """Return a key of the kind of `keys` for each pair of words and each number.

    Args:
      keys: of whose kind it is.
      words: `[*k 2]`.
      numbers: `[*n]`; `k` and `n` are broadcast.
    """
    shape = np.broadcast_shapes(words.shape[:-1], numbers.shape)
    words = np.broadcast_to(words, (*shape, 2)).reshape(-1, 2)
    index = np.ascontiguousarray(np.broadcast_to(numbers, shape), "<u8")
    index = index.reshape(-1, 1).view("<u4")
    pair: Any = np.stack(random_bits.pair(words, index), axis=-1)
    return jax.random.wrap_key_data(
        pair.reshape(*shape, 2), impl=str(jax.random.key_impl(keys))
    )


_RULES: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "random_fold_in": _fold_in,
    "random_split": _split,
}
