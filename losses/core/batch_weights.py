"""Contracts of the weights that are functions of the whole global batch.

A `Reweighting` weights tokens, a `Balance` terms and groups.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from losses.core.outputs import Batch

Tree = Any
Combination = Mapping[str, jax.Array]
"""`Σ_i c_i L_i`, as the c by the names of the terms."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchValues:
    """What a term is on a global batch; no gradient flows into it.

    values: of the term, `[b ...]` float32, zero where masked; None where they are not
            wanted.
    mask:   tokens that the term counts, bool, of the same shape.
    batch:  `batch["index"]` `[b]` are the dataset's rows.
    step:   of the optimiser, from 0.
    """

    values: jax.Array | None
    mask: jax.Array
    batch: Batch
    step: jax.Array

    def of_rows(self) -> tuple[jax.Array, jax.Array]:
        """The mean of the values in each row, and whether there are any, both `[b]`."""
        assert self.values is not None  # they are wanted
        axes = tuple(range(1, self.mask.ndim))
        counts = jnp.sum(self.mask, axis=axes, dtype=jnp.float32)
        sums = jnp.sum(self.values, axis=axes)
        return sums / jnp.maximum(counts, 1.0), counts > 0.0

    def to_tokens(self, rows: jax.Array) -> jax.Array:
        """`[b]`, repeated along each row."""
        wide = rows.reshape(rows.shape + (1,) * (self.mask.ndim - 1))
        return jnp.broadcast_to(wide, self.mask.shape)


class Reweighting(abc.ABC):
    """Token weights as a function of the whole batch; a `LossTerm.token_weight`.

    wants_values: whether the term's values are wanted: one pass of head and terms more,
                  under accumulation one of the trunk besides.
    num_rows:     rows of the dataset that a table has; None without one.
    """

    wants_values: ClassVar[bool] = True
    num_rows: int | None = None

    def initial(self) -> Tree:
        """What it remembers, before the first step; part of every checkpoint."""
        return {}

    @abc.abstractmethod
    def __call__(self, spread: BatchValues, memory: Tree) -> tuple[jax.Array, Tree]:
        """Weights `[b ...]`, and what it remembers from now on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceInputs:
    """What balances are made from; no gradient flows into it.

    step:  of the optimiser, from 0.
    means: by term, `L_i`: the sum of its values times its token weights, over the count
           of its tokens in the global batch.
    inner: `[term term]` inner products of the gradients of the `L_i` in what the trunk
           gives to the terms, in the order of `means`.

    `means` and `inner` are None where no balance wants them.
    """

    step: jax.Array
    means: Mapping[str, jax.Array] | None = None
    inner: jax.Array | None = None
    names: tuple[str, ...] = ()

    def value(self, of: Combination) -> jax.Array:
        """`Σ_i c_i L_i`."""
        assert self.means is not None  # a balance that reads it wants it
        return sum((c * self.means[name] for name, c in of.items()), jnp.float32(0.0))

    def gradient_norm(self, of: Combination) -> jax.Array:
        """`‖∂ Σ_i c_i L_i‖` in what the trunk gives to the terms."""
        assert self.inner is not None
        zero = jnp.float32(0.0)
        c = jnp.stack([jnp.asarray(of.get(name, zero)) for name in self.names])
        return jnp.sqrt(jnp.maximum(c @ self.inner @ c, 0.0))


jax.tree_util.register_dataclass(
    BalanceInputs, data_fields=["step", "means", "inner"], meta_fields=["names"]
)


class Balance(abc.ABC):
    """A weight that follows what the terms are worth.

    wants: `"values"` costs one pass of head and terms more, `"gradients"` one of them
           with a gradient a term; under accumulation, each one of the trunk besides.
    """

    wants: ClassVar[Literal["nothing", "values", "gradients"]]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the terms that it looks at, besides what it weighs."""
        return ()

    def params(self) -> Tree:
        """What it learns, before the first step; trained beside the student."""
        return {}

    def initial(self) -> Tree:
        """What it remembers, before the first step; part of every checkpoint."""
        return {}

    @abc.abstractmethod
    def __call__(
        self, own: Combination, seen: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[jax.Array, Tree]:
        """The weight, a float32 scalar, and what it remembers from now on.

        own: what is weighed, before this weight.
        """

    def penalty(self, params: Tree) -> jax.Array:
        """What the objective has besides, a float32 scalar."""
        del params
        return jnp.float32(0.0)
