"""Loops whose length depends on data, and the number of trips to count on."""

from collections.abc import Callable
from typing import Any

import jax

Tree = Any

_TRIPS = "trips_"


def fori(
    lower: jax.Array,
    upper: jax.Array,
    body: Callable[[jax.Array, Tree], Tree],
    init: Tree,
    *,
    trips: float,
) -> Tree:
    """Run `jax.lax.fori_loop`, saying how many trips are to be expected.

    Args:
      lower: first trip.
      upper: one past the last.
      body: of one trip.
      init: the first carry.
      trips: a number known from shapes, for those who count FLOPs: see `expected`.
    """

    def run(lower, upper, init):
        return jax.lax.fori_loop(lower, upper, body, init)

    # A jaxpr holds the name of a function under `jit`, and nothing else of ours.
    run.__name__ = f"{_TRIPS}{trips}"
    return jax.jit(run)(lower, upper, init)


def expected(name: str) -> float | None:
    """Return the trips in a name that `fori` gave to its function; None for others."""
    return float(name[len(_TRIPS) :]) if name.startswith(_TRIPS) else None
