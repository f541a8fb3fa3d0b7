"""Layers that follow each other: a module each, or one module with stacked arrays."""

import abc
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

STACKED = "stacked"
"""What stands in a parameter's path in place of its layer's number."""

Tree = Any
Make = Callable[[nnx.Rngs], nnx.Module]
Step = Callable[[Any, jax.Array, Tree], tuple[jax.Array, Tree]]


class Layers(nnx.Module):
    """`num_layers` modules of one kind, in order.

    A tree *by layer* has leaves that are indexed by layer first.
    """

    @classmethod
    @abc.abstractmethod
    def create(cls, make: Make, rngs: nnx.Rngs, *, num_layers: int) -> "Layers":
        """`make(rngs)` once a layer; all forms draw the same keys in the same order."""

    @property
    @abc.abstractmethod
    def sample(self) -> Any:
        """A layer, for what depends on no array."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of layers."""

    @abc.abstractmethod
    def run(
        self, step: Step, x: jax.Array, given: Tree = None
    ) -> tuple[jax.Array, Tree]:
        """`x, out = step(layer, x, its part of given)` through all layers.

        Returns the last `x`, and every `out` by layer, as `given` is.
        """

    @abc.abstractmethod
    def repeated(self, tree: Tree) -> Tree:
        """The same for all layers, by layer."""


class Separate(nnx.List, Layers):
    """Parameters of its own for each layer, `3/...`; the compiler sees them all."""

    @classmethod
    def create(cls, make: Make, rngs: nnx.Rngs, *, num_layers: int) -> "Separate":
        return cls([make(rngs) for _ in range(num_layers)])

    @property
    def sample(self) -> Any:
        return self[0]

    def run(
        self, step: Step, x: jax.Array, given: Tree = None
    ) -> tuple[jax.Array, Tree]:
        outs = []
        for index, layer in enumerate(self):
            part = jax.tree.map(lambda leaf, i=index: leaf[i], given, is_leaf=_is_list)
            x, out = step(layer, x, part)
            outs.append(out)
        return x, jax.tree.map(lambda *leaves: list(leaves), *outs)

    def repeated(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: [leaf] * len(self), tree)


class Stacked(Layers):
    """One module, `stacked/...`, each array with the layers along its first axis.

    The compiler sees one layer in a loop, when it creates them and when it runs them.
    Logical axis `layers`, which no rule of `sharding.RULES` spreads.
    """

    def __init__(self, stacked: nnx.Module, num_layers: int):
        self.stacked, self.num_layers = stacked, num_layers

    @classmethod
    def create(cls, make: Make, rngs: nnx.Rngs, *, num_layers: int) -> "Stacked":
        # `nnx.split_rngs` and `nnx.vmap` would draw other keys than `Separate`: a scan
        # that carries `rngs` goes through the same counts.
        def one(rngs: nnx.Rngs, _: None) -> tuple[nnx.Rngs, nnx.Module]:
            layer = make(rngs)
            return rngs, layer

        following, stacked = jax.lax.scan(one, rngs, length=num_layers)
        nnx.update(rngs, nnx.state(following))
        for _, variable in nnx.iter_graph(stacked):
            if isinstance(variable, nnx.Variable) and "axes" in variable.get_metadata():
                variable.set_metadata(axes=("layers", *variable.get_metadata()["axes"]))
        return cls(stacked, num_layers)

    @property
    def sample(self) -> Any:
        return self.stacked

    def __len__(self) -> int:
        return self.num_layers

    def run(
        self, step: Step, x: jax.Array, given: Tree = None
    ) -> tuple[jax.Array, Tree]:
        def one(x: jax.Array, parts: tuple[Any, Tree]) -> tuple[jax.Array, Tree]:
            return step(parts[0], x, parts[1])

        return jax.lax.scan(one, x, (self.stacked, given))

    def repeated(self, tree: Tree) -> Tree:
        count = self.num_layers
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree)


FORMS: Mapping[str, type[Layers]] = {"separate": Separate, STACKED: Stacked}


def check_form(name: str) -> str:
    """`name`, or ValueError with the names there are."""
    if name not in FORMS:
        raise ValueError(f"layers must be one of {sorted(FORMS)}, got {name!r}")
    return name


def is_stacked(path: Sequence[str]) -> bool:
    """Whether the parameter of a `Stacked` that is called `blocks` lies at `path`."""
    return ("blocks", STACKED) in itertools.pairwise(path)


def form_of(params: Mapping[str, Any]) -> str:
    """Which form a model with these nested parameters has: a name in `FORMS`."""
    return STACKED if STACKED in params.get("blocks", {}) else "separate"


def _is_list(x: Any) -> bool:
    return isinstance(x, list)
