"""A step run again from the same state, to find a machine that computes wrongly.

A failing core or memory cell gives no error, only other bits. The program is the same,
so two runs of it on one state and batch differ only where something has failed.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from models.base import Batch
from runner.errors import Corrupted
from runner.step.compiled_step import CompiledStep
from runner.step.train_step import Metrics

_SHOWN = 4
Leaves = list[jax.Array]


class RepeatedStep:
    """The train step; every so often twice, both results compared bit for bit.

    A step that is repeated takes twice its time, and a second state in memory.
    """

    def __init__(self, step: CompiledStep, *, every: int):
        """Repeat each step whose number is a multiple of `every`; 0 is none."""
        self._step, self._every = step, every
        paths, _ = jax.tree_util.tree_flatten_with_path(step.state)
        self._names = [
            jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths
        ]

    def __call__(
        self, number: int, leaves: Leaves, batch: Batch
    ) -> tuple[Leaves, Metrics]:
        """Take the step that is then finished as `number`; `leaves` are consumed.

        Raises:
          Corrupted: the second run has other bits; names leaves and devices.
        """
        if not self._every or number % self._every:
            return self._step(leaves, batch)
        shardings = tuple(leaf.sharding for leaf in leaves)
        again, _ = self._step(_copier(shardings)(leaves), batch)
        leaves, metrics = self._step(leaves, batch)
        differing = [
            f"{name} on {', '.join(devices)}"
            for name, one, other in zip(self._names, leaves, again, strict=True)
            if (devices := differing_devices(one, other))
        ]
        if differing:
            more = len(differing) - _SHOWN
            listed = "; ".join(differing[:_SHOWN])
            raise Corrupted(
                f"step {number}: run twice, it gave other bits: {listed}"
                f"{f'; and {more} more' if more > 0 else ''}\n"
                "no checkpoint of this state was kept; the last one is from before"
            )
        return leaves, metrics


def differing_devices(one: jax.Array, other: jax.Array) -> Sequence[str]:
    """Return the devices of this process whose parts of two arrays have other bits."""
    pairs = zip(one.addressable_shards, other.addressable_shards, strict=True)
    return [str(a.device) for a, b in pairs if bool(_differ(a.data, b.data))]


@functools.cache
def _copier(shardings: tuple[jax.sharding.Sharding, ...]) -> Callable[..., Leaves]:
    return jax.jit(
        lambda leaves: [jnp.copy(x) for x in leaves], out_shardings=list(shardings)
    )


@jax.jit
def _differ(one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.any(_bits(one) != _bits(other))


def _bits(x: jax.Array) -> jax.Array:
    """Return the bits of floats, in which NaN equals itself and 0 is not -0."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
