"""Sequences of layers: a module each, or one with stacked arrays; their parameters."""

import abc
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models import checks

STACKED = "stacked"
"""Entry of a parameter's path in place of its layer's number."""

Tree = Any
Make = Callable[[nnx.Rngs], nnx.Module]
Step = Callable[[Any, jax.Array, Tree], tuple[jax.Array, Tree]]


class Layers(nnx.Module):
    """`num_layers` modules of one kind, in order.

    A tree *by layer* has leaves that are indexed by layer first.
    """

    @classmethod
    @abc.abstractmethod
    def create(
        cls, make: Make, rngs: nnx.Rngs, *, num_layers: int, first: Sequence[Make] = ()
    ) -> "Layers":
        """Create the layers, `make(rngs)` each but for those that `first` makes.

        All forms draw the same keys in the same order.
        """

    @property
    @abc.abstractmethod
    def samples(self) -> Sequence[Any]:
        """The layers, for properties that depend on no array."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of layers."""

    @abc.abstractmethod
    def run(
        self, step: Step, x: jax.Array, inputs: Tree = None
    ) -> tuple[jax.Array, Tree]:
        """Run `x, output = step(layer, x, input)` through all layers.

        Args:
          step: called once a layer.
          x: the first layer's input.
          inputs: a tree by layer.

        Returns:
          The last `x`, and the outputs by layer.
        """

    @abc.abstractmethod
    def repeated(self, tree: Tree) -> Tree:
        """Return `tree` once for each layer, by layer."""


class SeparateLayers(nnx.List, Layers):
    """A module a layer, parameters at `3/...`; the compiler sees them all."""

    @classmethod
    def create(
        cls, make: Make, rngs: nnx.Rngs, *, num_layers: int, first: Sequence[Make] = ()
    ) -> "SeparateLayers":
        makes = [*first, *[make] * (num_layers - len(first))]
        return cls([make(rngs) for make in makes])

    @property
    def samples(self) -> Sequence[Any]:
        return list(self)

    def run(
        self, step: Step, x: jax.Array, inputs: Tree = None
    ) -> tuple[jax.Array, Tree]:
        outputs = []
        for index, layer in enumerate(self):
            one = jax.tree.map(lambda leaf, i=index: leaf[i], inputs, is_leaf=_is_list)
            x, output = step(layer, x, one)
            outputs.append(output)
        # None stands for what a layer of another kind does not have.
        return x, jax.tree.map(lambda *xs: list(xs), *outputs, is_leaf=_is_none)

    def repeated(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: [leaf] * len(self), tree)


class StackedLayers(Layers):
    """One module, `stacked/...`, each array with the layers along its first axis.

    The compiler sees one layer in a loop, when it creates them and when it runs them.
    Logical axis `layers`, which no rule of `sharding.RULES` spreads.
    """

    def __init__(self, stacked: nnx.Module, num_layers: int):
        self.stacked, self.num_layers = stacked, num_layers

    @classmethod
    def create(
        cls, make: Make, rngs: nnx.Rngs, *, num_layers: int, first: Sequence[Make] = ()
    ) -> "StackedLayers":
        if first:
            raise ValueError("first_layers are of another kind: layers='separate'")

        # `nnx.split_rngs` and `nnx.vmap` would draw other keys than `SeparateLayers`: a
        # scan that carries `rngs` goes through the same counts.
        def create_layer(rngs: nnx.Rngs, _: None) -> tuple[nnx.Rngs, nnx.Module]:
            layer = make(rngs)
            return rngs, layer

        next_rngs, stacked = jax.lax.scan(create_layer, rngs, length=num_layers)
        nnx.update(rngs, nnx.state(next_rngs))
        for _, variable in nnx.iter_graph(stacked):
            if isinstance(variable, nnx.Variable) and "axes" in variable.get_metadata():
                variable.set_metadata(axes=("layers", *variable.get_metadata()["axes"]))
        return cls(stacked, num_layers)

    @property
    def samples(self) -> Sequence[Any]:
        return [self.stacked] * self.num_layers

    def __len__(self) -> int:
        return self.num_layers

    def run(
        self, step: Step, x: jax.Array, inputs: Tree = None
    ) -> tuple[jax.Array, Tree]:
        def run_layer(x: jax.Array, xs: tuple[Any, Tree]) -> tuple[jax.Array, Tree]:
            layer, one = xs
            return step(layer, x, one)

        return jax.lax.scan(run_layer, x, (self.stacked, inputs))

    def repeated(self, tree: Tree) -> Tree:
        count = self.num_layers
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree)


FORMS: Mapping[str, type[Layers]] = {
    "separate": SeparateLayers,
    STACKED: StackedLayers,
}


def form(name: str) -> type[Layers]:
    """Return the class of `FORMS`; ValueError for a name it does not have."""
    return FORMS[checks.one_of("layers", name, FORMS)]


def is_stacked(path: Sequence[str]) -> bool:
    """Return true for the path of a parameter of stacked `blocks`."""
    return ("blocks", STACKED) in itertools.pairwise(path)


def are_matrices(params: Tree) -> Tree:
    """Return true for the matrices of one layer, stacked or not; biases are vectors."""

    def is_matrix(path: tuple[Any, ...], x: jax.Array) -> bool:
        names = path_names(path)
        return x.ndim - is_stacked(names) > 1 and not names[-1].endswith("_bias")

    return jax.tree_util.tree_map_with_path(is_matrix, params)


class MatrixAxes(NamedTuple):
    """The axes of one matrix, from the end; any others number independent matrices.

    Attributes:
      inputs: axes that a product with the layer's input sums over.
      outputs: axes of the product.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


_PLAIN = MatrixAxes(inputs=(-2,), outputs=(-1,))
_INTO_HEADS = MatrixAxes(inputs=(-3,), outputs=(-2, -1))

_OF_BLOCKS = {
    "query": _INTO_HEADS,
    "key": _INTO_HEADS,
    "value": _INTO_HEADS,
    "output": MatrixAxes(inputs=(-3, -2), outputs=(-1,)),
    "gate": _PLAIN,
    "up": _PLAIN,
    "down": _PLAIN,
    "router": _PLAIN,
    "query_latent": _PLAIN,
    "query_up": _INTO_HEADS,
    "latent": _PLAIN,
    "key_value": _INTO_HEADS,
}
"""By the name of a parameter within `blocks`; experts and stacked layers come first."""


def matrix_axes(params: Tree) -> Tree:
    """Return the `MatrixAxes` of each parameter, None for all but matrices of blocks.

    Embeddings, heads, biases, norms and all that stands outside the blocks have None.
    """

    def axes(path: tuple[Any, ...], _: Any) -> MatrixAxes | None:
        names = path_names(path)
        return _OF_BLOCKS.get(names[-1]) if "blocks" in names[:-1] else None

    return jax.tree_util.tree_map_with_path(axes, params)


def kernel_axes(name: str) -> MatrixAxes | None:
    """Return the `MatrixAxes` of a parameter of a block; None if it has none."""
    return _OF_BLOCKS.get(name)


def form_of(params: Mapping[str, Any]) -> str:
    """Return the form, a name in `FORMS`, of a model with these nested parameters."""
    return STACKED if STACKED in params.get("blocks", {}) else "separate"


def path_names(path: tuple[Any, ...]) -> list[str]:
    """Return the keys of a path as strings."""
    return jax.tree_util.keystr(path, simple=True, separator="/").split("/")


def _is_list(x: Any) -> bool:
    return isinstance(x, list)


def _is_none(x: Any) -> bool:
    return x is None
