"""An `nnx.Module` taken apart: its structure, and its arrays as plain nested dicts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from models import sharding

Tree = Any


@dataclasses.dataclass(frozen=True)
class SplitModule:
    """An `nnx.Module` without its arrays."""

    graph: Any
    params: nnx.State
    variables: nnx.State

    @classmethod
    def of(
        cls, module: nnx.Module, trained: frozenset[str] | None = None
    ) -> "SplitModule":
        """Take a real or an abstract module apart.

        Args:
          module: the module.
          trained: paths of the parameters that are `params`; those left out are frozen
            and count as variables, which nothing differentiates. None for all.
        """
        if trained is None:
            return cls(*nnx.split(module, nnx.Param, ...))
        is_trained = nnx.All(nnx.Param, lambda path, _: _name(path) in trained)
        return cls(*nnx.split(module, is_trained, ...))

    def frozen(self) -> frozenset[str]:
        """Paths of the variables that are parameters, left out of the training."""
        flat = nnx.to_flat_state(self.variables)
        return frozenset(_name(path) for path, x in flat if isinstance(x, nnx.Param))

    def arrays(self) -> tuple[Tree, Tree]:
        """(params, variables) as nested dicts of arrays with string keys."""
        return _pure(self.params), _pure(self.variables)

    def shardings(self, mesh: jax.sharding.Mesh, rules: sharding.Rules) -> tuple:
        """(params, variables) as nested dicts of shardings."""
        return tuple(
            string_keys(sharding.parameter_shardings(state, mesh, rules))
            for state in (self.params, self.variables)
        )

    def module(self, params: Tree, variables: Tree) -> Any:
        """The module holding these arrays."""
        return nnx.merge(
            self.graph,
            _filled(self.params, params),
            _filled(self.variables, variables),
        )


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))


def _pure(state: nnx.State) -> Tree:
    return string_keys(nnx.to_pure_dict(state))


def string_keys(tree: Tree) -> Tree:
    """Nested dicts with every key as a string, as the arrays of a state are named."""
    if not isinstance(tree, Mapping):
        return tree
    return {str(key): string_keys(value) for key, value in tree.items()}


def _filled(state: nnx.State, arrays: Tree) -> nnx.State:
    filled = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(filled, nnx.restore_int_paths(arrays))
    return filled
