"""Trainable modules without their arrays, and the `TrainState` that holds these."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from losses import Balance, Loss, LossTerm, Reweighting
from losses.core.terms import Item, flat_terms
from losses.weighting import weights
from models import sharding
from models.base import Model
from runner import optimizers
from runner.checkpoint import tree_paths
from runner.errors import UserError, prefixed
from runner.machine import mesh as mesh_lib
from runner.state import fresh, path_patterns
from runner.state.path_patterns import Patterns
from runner.state.split_module import SplitModule
from runner.state.train_state import AUTHOR, TrainState

Tree = Any


def no_teacher_state(student: Tree) -> Tree:
    """Return the state of a teacher that does not follow the student: none."""
    del student
    return {}


class TrainModules:
    """The student and the loss terms, without the arrays of a `TrainState`.

    Args:
      student: called with `rngs=`.
      items: terms and groups.
      optimizer: of all that is trained.
      init_teacher: `{"params": ..., "variables": ...}` of the student to the teacher's
        state before the first step, a tree of some of these leaves.
      trainable: patterns of the student's parameters that are trained; the others are
        among its variables. None for those that the model names, or all.

    Raises:
      UserError: a pattern matches nothing, or nothing is left to train.

    Attributes:
      items: terms and groups, in order.
      optimizer: as given, taking any tree.
      student: `TrainState.params["student"]` and its variables to the model.
    """

    def __init__(
        self,
        student: Any,
        items: Sequence[Item],
        optimizer: Any,
        init_teacher: Callable[[Tree], Tree] = no_teacher_state,
        trainable: Patterns | None = None,
    ):
        self._make_student = student
        self.items = tuple(items)
        self._declared_terms = tuple(flat_terms(items))
        self.optimizer = optimizers.in_float32(optimizer)
        self._init_teacher = init_teacher
        modules = nnx.eval_shape(self._init_modules, abstract_key())
        self._trainable = trainable
        self._has_author = False
        if trainable is None:
            trainable = getattr(modules[""], "trainable", None)
        self._trained = _trained(modules[""], trainable)
        self._split_modules = self._split(modules)
        self.student: Callable[[Tree, Tree], Model] = self._split_modules[""].module

    def with_items(self, items: Sequence[Item]) -> "TrainModules":
        """Return the same student with other terms, to be evaluated."""
        return TrainModules(
            self._make_student, items, optax.identity(), trainable=self._trainable
        )

    def with_author(self) -> "TrainModules":
        """Return the same modules, with an older student in the state's memory."""
        modules = copy.copy(self)
        for cached in ("_jitted_initial", "_initial_shapes"):
            modules.__dict__.pop(cached, None)
        modules._has_author = True
        return modules

    def _init_modules(self, key: jax.Array) -> dict[str, nnx.Module]:
        """Return every module that owns arrays, fresh, by term; "" is the student."""
        modules = {"": self._make_student(rngs=nnx.Rngs(params=key))}
        for index, term in enumerate(self._declared_terms):
            if not isinstance(term.loss, Loss):
                rngs = nnx.Rngs(params=jax.random.fold_in(key, index))
                modules[term.name] = term.loss(rngs=rngs)
        return modules

    def _split(self, modules: Mapping[str, nnx.Module]) -> dict[str, SplitModule]:
        return {
            name: SplitModule.of(module, None if name else self._trained)
            for name, module in modules.items()
        }

    def frozen(self, variables: Tree) -> dict[str, Any]:
        """Return the student's parameters that are not trained, by path.

        Args:
          variables: as `TrainState.variables`.
        """
        leaves = tree_paths.by_path(variables["student"])
        paths = self._split_modules[""].frozen()
        return {path: x for path, x in leaves.items() if path in paths}

    def terms(self, params: Tree, variables: Tree) -> list[LossTerm]:
        """Return the terms with the arrays of `TrainState.params["losses"]`."""
        terms = []
        for term in self._declared_terms:
            if term.name in self._split_modules:
                owner = self._split_modules[term.name]
                module = owner.module(params[term.name], variables[term.name])
                term = dataclasses.replace(term, loss=module)
            terms.append(term)
        return terms

    def abstract_student(self) -> Model:
        """Return the student, for all that depends on no array."""
        return self.student(*self.abstract_arrays())

    def abstract_arrays(self) -> tuple[Tree, Tree]:
        """Return shapes and dtypes of the student's (params, variables)."""
        return self._split_modules[""].arrays()

    def abstract_terms(self) -> list[LossTerm]:
        """Return the terms, for all that depends on no array: needs, scope, masks."""
        losses = {name: d.arrays() for name, d in self._split_modules.items()}
        return self.terms(
            {name: params for name, (params, _) in losses.items()},
            {name: variables for name, (_, variables) in losses.items()},
        )

    def initial(
        self, key: jax.Array, start: Mapping[str, jax.Array] | None = None
    ) -> TrainState:
        """Return the state before the first step; to be called under `jit`.

        Args:
          key: of what is fresh.
          start: arrays of the student by path, in place of fresh ones.
        """
        modules = self._split(self._init_modules(key))
        arrays = {name: module.arrays() for name, module in modules.items()}
        if start:
            arrays[""] = _overlaid(arrays[""], start)
        params, variables = _arrange(arrays)
        params["weights"] = {n: b.params() for n, b in self._balances.items()}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            variables=variables,
            opt_state=self.optimizer.init(params),
            teacher=optimizers.float32(self._teacher_state(params, variables)),
            memory=optimizers.float32(self._memory()) | self._author(params, variables),
        )

    @property
    def _balances(self) -> dict[str, Balance]:
        return weights.balances(self.items)

    def _memory(self) -> Tree:
        of_losses = {
            term.name: memory
            for term in self.abstract_terms()
            if (memory := term.loss.initial())
        }
        return {
            # Runs without any began before there was one.
            **({"losses": of_losses} if of_losses else {}),
            "weights": {n: b.initial() for n, b in self._balances.items()},
            "tokens": {
                term.name: term.token_weight.initial()
                for term in self._declared_terms
                if isinstance(term.token_weight, Reweighting)
            },
        }

    def _author(self, params: Tree, variables: Tree) -> dict[str, Tree]:
        """Return what the memory has of the student that writes rows, if anything."""
        if not self._has_author:
            return {}
        student = {"params": params["student"], "variables": variables["student"]}
        return {AUTHOR: student}

    @functools.cached_property
    def _jitted_initial(self) -> Callable[..., TrainState]:
        """Return `initial`, traced once for its shapes and its values."""
        return jax.jit(self.initial)

    @functools.cached_property
    def _initial_shapes(self) -> TrainState:
        return jax.eval_shape(self._jitted_initial, abstract_key())

    def _teacher_state(self, params: Tree, variables: Tree) -> Tree:
        """Return the teacher's state before the first step, of a state's leaves."""
        return self._init_teacher(
            {"params": params["student"], "variables": variables["student"]}
        )

    def shardings(self, mesh: jax.sharding.Mesh, rules: sharding.Rules) -> TrainState:
        """Return a `NamedSharding` for every array, those of the optimiser included."""
        params, variables = _arrange(
            {n: d.shardings(mesh, rules) for n, d in self._split_modules.items()}
        )
        everywhere = mesh_lib.replicated(mesh)
        abstract = self._initial_shapes
        params["weights"] = jax.tree.map(
            lambda _: everywhere, abstract.params["weights"]
        )
        return TrainState(
            step=everywhere,  # pyright: ignore[reportArgumentType] - a tree of shardings
            params=params,
            variables=variables,
            opt_state=_without_computing(
                lambda: optax.tree.map_params(
                    self.optimizer,
                    # An optimiser of some parameters has no array for the others.
                    lambda x, placed: x if isinstance(x, optax.MaskedNode) else placed,
                    abstract.opt_state,
                    params,
                    transform_non_params=lambda _: everywhere,
                    is_leaf=lambda x: isinstance(x, optax.MaskedNode),
                )
            ),
            # What a teacher has beside leaves of the student lies on every device.
            teacher=jax.tree.map(
                lambda x: x if isinstance(x, jax.sharding.Sharding) else everywhere,
                self._teacher_state(params, variables),
            ),
            memory=jax.tree.map(lambda _: everywhere, abstract.memory)
            | self._author(params, variables),
        )

    def create(
        self, seed: int, mesh: jax.sharding.Mesh, rules: sharding.Rules
    ) -> TrainState:
        """Return a fresh state, computed under `jit` straight into its shardings."""
        return fresh.evaluate(
            self._jitted_initial,
            jax.random.key(seed),
            out_shardings=self.shardings(mesh, rules),
        )

    def create_from(
        self,
        start: Mapping[str, jax.Array],
        *,
        seed: int,
        mesh: jax.sharding.Mesh,
        rules: sharding.Rules,
    ) -> TrainState:
        """Return the state that begins with `start`; what it lacks is fresh.

        The arrays of `start` are consumed: they are the state's, not a copy of them.
        """
        return fresh.evaluate(
            self.initial,
            jax.random.key(seed),
            start,
            out_shardings=self.shardings(mesh, rules),
            donate_argnums=(1,),
        )

    def abstract(self, mesh: jax.sharding.Mesh, rules: sharding.Rules) -> TrainState:
        """Return shapes, dtypes and shardings of the state; no array is computed."""
        return jax.tree.map(
            lambda x, placed: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
            self._initial_shapes,
            self.shardings(mesh, rules),
        )


def abstract_key() -> jax.ShapeDtypeStruct:
    """Return the shape of a key; a key itself would start the backend."""
    return jax.eval_shape(jax.random.key, 0)


def _without_computing(function: Callable[[], Tree]) -> Tree:
    """Return what a function returns; its arrays, of which that holds none, are traced.

    An optimiser's `init` evaluates its schedules, else operation by operation.
    """
    results = []
    jax.eval_shape(lambda: results.append(function()))
    return results[0]


def _trained(module: nnx.Module, trainable: Patterns | None) -> frozenset[str] | None:
    """Return the paths of the parameters to train; None for all.

    Raises:
      UserError: a pattern matches none, or they leave none.
    """
    if trainable is None:
        return None
    params, _ = SplitModule.of(module).arrays()
    with prefixed("trainable"):
        trained = path_patterns.chosen(tree_paths.by_path(params), trainable)
    if not trained:
        raise UserError(f"trainable: {trainable!r} leaves nothing to train")
    return trained


def _overlaid(arrays: tuple[Tree, Tree], start: Mapping[str, jax.Array]) -> tuple:
    """Return (params, variables) with the arrays of `start` in their places."""
    params, variables = (
        jax.tree.unflatten(
            jax.tree.structure(part),
            [start.get(path, x) for path, x in tree_paths.by_path(part).items()],
        )
        for part in arrays
    )
    return params, variables


def _arrange(pairs: Mapping[str, tuple[Tree, Tree]]) -> tuple[Tree, Tree]:
    """Arrange {name: (params, variables)} as the two trees of a `TrainState`."""

    def arrange(which: int) -> Tree:
        losses = {name: pair[which] for name, pair in pairs.items() if name}
        return {"student": pairs[""][which], "losses": losses}

    return arrange(0), arrange(1)
