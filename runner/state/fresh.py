"""Fresh values of a function that draws at random, without a program for each draw."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.core import eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var

from runner.state import random_bits, random_keys

Tree = Any


def evaluate(
    function: Callable[..., Tree],
    *arguments: Any,
    out_shardings: Tree,
    donate_argnums: tuple[int, ...] = (),
) -> Tree:
    """Return `function(*arguments)`, straight in its shardings.

    The values are those of `jax.jit`. But XLA would compile a generator of random bits
    for each draw, which takes longer than all else of an initial state: so all bits
    come from one small program, and what is made of them from another. What cannot be
    told apart (draws in loops, other generators) stays in the other one.

    Args:
      function: traceable.
      *arguments: of `function`.
      out_shardings: of the result.
      donate_argnums: as of `jax.jit`.
    """
    parts = _Parts.of(function, *arguments)
    rest = jax.jit(
        parts.rest, out_shardings=out_shardings, donate_argnums=donate_argnums
    )
    draws = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in map(_type, parts.draws)]
    compiled = rest.lower(*arguments, bits=draws).compile()
    # Each device is handed the bits of what it will hold: XLA says which.
    shardings = compiled.input_shardings[1].get("bits", [])
    bits = map(random_bits.sharded, parts.keys(*arguments), draws, shardings)
    return compiled(*arguments, bits=list(bits))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """A traced function in parts: the keys it draws from, and what it makes of draws.

    Attributes:
      traced: the function, calls of functions that draw in place.
      needed: its equations, but for those that the result does not need.
      draws: the random bits among their results.
      result: structure of the result.
    """

    traced: ClosedJaxpr
    needed: Sequence[JaxprEqn]
    draws: Sequence[Var]
    result: Any

    @classmethod
    def of(cls, function: Callable[..., Tree], *arguments: Any) -> "_Parts":
        calls, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        traced = _flat(calls)
        needed = _needed(traced.jaxpr.eqns, traced.jaxpr.outvars)
        draws = [equation.outvars[0] for equation in needed if _is_draw(equation)]
        return cls(traced, needed, draws, jax.tree.structure(shapes))

    def keys(self, *arguments: Any) -> list[jax.Array]:
        """Return the keys of each draw."""
        keys = [e.invars[0] for e in self.needed if _is_draw(e)]
        jaxpr = self._part(eqns=_needed(self.needed, keys), outvars=keys)
        return random_keys.evaluate(
            jaxpr, self.traced.consts, *jax.tree.leaves(arguments)
        )

    def rest(self, *arguments: Any, bits: Sequence[jax.Array]) -> Tree:
        """Return the function's result from the bits of its draws."""
        jaxpr = self._part(
            invars=[*self.traced.jaxpr.invars, *self.draws],
            eqns=_needed(
                [e for e in self.needed if not _is_draw(e)], self.traced.jaxpr.outvars
            ),
        )
        leaves = eval_jaxpr(
            jaxpr, self.traced.consts, *jax.tree.leaves([arguments, bits])
        )
        return jax.tree.unflatten(self.result, leaves)

    def _part(self, **part: Any) -> Jaxpr:
        names = self.traced.jaxpr.debug_info.with_unknown_names()
        return self.traced.jaxpr.replace(**part, debug_info=names)


def _is_draw(equation: JaxprEqn) -> bool:
    if equation.primitive.name != "random_bits":
        return False
    key, width = _type(equation.invars[0]), equation.params["bit_width"]
    return random_bits.by_index(key.dtype, width)


def _type(x: Any) -> Any:
    """Return shape and dtype of an array in a traced function."""
    return x.aval


@functools.lru_cache(maxsize=32)  # layers draw by the same functions
def _flat(function: ClosedJaxpr) -> ClosedJaxpr:
    """Return it with the bodies of compiled functions that draw in place of calls."""
    jaxpr = function.jaxpr.replace(eqns=[_inline(e) for e in function.jaxpr.eqns])
    evaluate = functools.partial(eval_jaxpr, jaxpr, function.consts)
    return jax.make_jaxpr(evaluate)(*function.in_avals)


def _inline(equation: JaxprEqn) -> JaxprEqn:
    if equation.primitive.name != "jit" or not _draws(equation.params["jaxpr"].jaxpr):
        return equation
    body = _flat(equation.params["jaxpr"])
    return equation.replace(params={**equation.params, "jaxpr": body, "inline": True})


def _draws(jaxpr: Jaxpr) -> bool:
    """Return whether it draws, in a function that it calls too."""
    bodies = (e.params["jaxpr"].jaxpr for e in jaxpr.eqns if e.primitive.name == "jit")
    return any(map(_is_draw, jaxpr.eqns)) or any(map(_draws, bodies))


def _needed(equations: Sequence[JaxprEqn], results: Iterable[Any]) -> list[JaxprEqn]:
    """Return the equations that the results depend on, in order."""
    wanted = {x for x in results if isinstance(x, Var)}
    needed = []
    for equation in reversed(equations):
        if not wanted.isdisjoint(equation.outvars):
            needed.append(equation)
            wanted |= {x for x in equation.invars if isinstance(x, Var)}
    return needed[::-1]
