"""Trainable modules without their arrays, and the `TrainState` that holds these."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from losses import Balance, Loss, LossTerm, Reweighting
from losses.core import terms
from losses.core.terms import Item
from losses.weighting import weights
from models import sharding
from models.base import Model
from runner import optimizers
from runner.machine import mesh as mesh_lib
from runner.state.split_module import SplitModule
from runner.state.train_state import TrainState

if TYPE_CHECKING:
    from runner.teachers.base import Teacher

Tree = Any


class TrainModules:
    """The student and the loss terms, as definitions over a `TrainState`'s arrays.

    teacher: says what state of its own moves with the student.
    """

    def __init__(
        self,
        student: Any,
        items: Sequence[Item],
        optimizer: Any,
        teacher: "Teacher | None" = None,
    ):
        self._make_student = student
        self.items = tuple(items)
        self._given_terms = tuple(terms.flat_terms(items))
        self.optimizer = optimizers.relaxed(optimizer)
        self.teacher = teacher
        modules = nnx.eval_shape(self._modules, abstract_key())
        self._definitions = {
            name: SplitModule.of(module) for name, module in modules.items()
        }

    def _modules(self, key: jax.Array) -> dict[str, nnx.Module]:
        """By name ("" is the student): every module that owns arrays, fresh."""
        modules = {"": self._make_student(rngs=nnx.Rngs(params=key))}
        for index, term in enumerate(self._given_terms):
            if not isinstance(term.loss, Loss):
                rngs = nnx.Rngs(params=jax.random.fold_in(key, index))
                modules[term.name] = term.loss(rngs=rngs)
        return modules

    def student(self, params: Tree, variables: Tree) -> Model:
        """The student over the arrays of `TrainState.params["student"]`."""
        return self._definitions[""].module(params, variables)

    def terms(self, params: Tree, variables: Tree) -> list[LossTerm]:
        """The terms over the arrays of `TrainState.params["losses"]`."""
        terms = []
        for term in self._given_terms:
            if term.name in self._definitions:
                owner = self._definitions[term.name]
                module = owner.module(params[term.name], variables[term.name])
                term = dataclasses.replace(term, loss=module)
            terms.append(term)
        return terms

    def abstract_student(self) -> Model:
        """The student, for what depends on no array."""
        return self.student(*self._definitions[""].arrays())

    def abstract_terms(self) -> list[LossTerm]:
        """The terms, for what depends on no array: needs, scope, masks, weights."""
        losses = {name: d.arrays() for name, d in self._definitions.items()}
        return self.terms(
            {name: params for name, (params, _) in losses.items()},
            {name: variables for name, (_, variables) in losses.items()},
        )

    def initial(self, key: jax.Array) -> TrainState:
        """A fresh state; to be called under `jit` with `shardings`."""
        arrays = {n: SplitModule.of(m).arrays() for n, m in self._modules(key).items()}
        params, variables = _laid_out(arrays)
        params["weights"] = {n: b.params() for n, b in self._balances.items()}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            variables=variables,
            opt_state=self.optimizer.init(params),
            teacher=self.moving(params, variables),
            memory=self._memory(),
        )

    @property
    def _balances(self) -> dict[str, Balance]:
        return weights.balances(self.items)

    def _memory(self) -> Tree:
        return {
            "weights": {n: b.initial() for n, b in self._balances.items()},
            "tokens": {
                term.name: term.token_weight.initial()
                for term in self._given_terms
                if isinstance(term.token_weight, Reweighting)
            },
        }

    @functools.cached_property
    def _initial_shapes(self) -> TrainState:
        return jax.eval_shape(self.initial, abstract_key())

    def moving(self, params: Tree, variables: Tree) -> Tree:
        """The teacher's state before the first step, of a `TrainState`'s leaves."""
        return (
            {}
            if self.teacher is None
            else self.teacher.init_state(_student(params, variables))
        )

    def advanced(self, state: TrainState) -> Tree:
        """The teacher's state after the step that led to `state`."""
        if self.teacher is None:
            return state.teacher
        student = _student(state.params, state.variables)
        return self.teacher.update_state(state.teacher, student, state.step)

    def shardings(self, mesh: jax.sharding.Mesh, rules: sharding.Rules) -> TrainState:
        """A `NamedSharding` for every array of the state, optimiser's included."""
        params, variables = _laid_out(
            {n: d.shardings(mesh, rules) for n, d in self._definitions.items()}
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
            opt_state=optax.tree.map_params(
                self.optimizer,
                lambda _, placed: placed,
                abstract.opt_state,
                params,
                transform_non_params=lambda _: everywhere,
            ),
            teacher=self.moving(params, variables),
            memory=jax.tree.map(lambda _: everywhere, abstract.memory),
        )

    def create(
        self, seed: int, mesh: jax.sharding.Mesh, rules: sharding.Rules
    ) -> TrainState:
        """A fresh state, made under `jit` straight into its shardings."""
        make = jax.jit(self.initial, out_shardings=self.shardings(mesh, rules))
        return make(jax.random.key(seed))

    def abstract(self, mesh: jax.sharding.Mesh, rules: sharding.Rules) -> TrainState:
        """Shapes, dtypes and shardings of the state; no array is made."""
        return jax.tree.map(
            lambda x, placed: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
            self._initial_shapes,
            self.shardings(mesh, rules),
        )


def abstract_key() -> jax.ShapeDtypeStruct:
    """The shape of a key; a key itself would wake the devices."""
    return jax.eval_shape(jax.random.key, 0)


def _laid_out(pairs: Mapping[str, tuple[Tree, Tree]]) -> tuple[Tree, Tree]:
    """{name: (params, variables)} as the two layouts of a `TrainState`."""

    def layout(which: int) -> Tree:
        losses = {name: pair[which] for name, pair in pairs.items() if name}
        return {"student": pairs[""][which], "losses": losses}

    return layout(0), layout(1)


def _student(params: Tree, variables: Tree) -> Tree:
    return {"params": params["student"], "variables": variables["student"]}
