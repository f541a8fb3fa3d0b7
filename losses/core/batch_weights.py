"""Contracts of the weights that are functions of the whole global batch.

A `Reweighting` weights tokens, a `Balance` terms and groups.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.outputs import Batch

Tree = Any
Combination = Mapping[str, Float[Array, ""]]
"""`Σ_i c_i L_i`, as the c by the names of the terms."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchValues:
    """Values of one term on a global batch; no gradient flows into them.

    Attributes:
      values: of the term, float32, zero where masked; None where the reweighting does
        not ask for them.
      mask: the tokens that the term counts.
      batch: `batch["index"]` `[b]` are the dataset's rows.
      step: of the optimiser, from 0.
    """

    values: Float[Array, "b ..."] | None
    mask: Bool[Array, "b ..."]
    batch: Batch
    step: Int[Array, ""]

    def row_means(self) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
        """Return the mean of each row's values, and whether the row has any."""
        assert self.values is not None  # `wants_values`
        axes = tuple(range(1, self.mask.ndim))
        counts = jnp.sum(self.mask, axis=axes, dtype=jnp.float32)
        sums = jnp.sum(self.values, axis=axes)
        return sums / jnp.maximum(counts, 1.0), counts > 0.0

    def to_tokens(self, rows: Float[Array, " b"]) -> Float[Array, "b ..."]:
        """Repeat a number per row along the row."""
        wide = rows.reshape(rows.shape + (1,) * (self.mask.ndim - 1))
        return jnp.broadcast_to(wide, self.mask.shape)


class Reweighting(abc.ABC):
    """Token weights as a function of the whole batch; a `LossTerm.token_weight`.

    Attributes:
      wants_values: whether it reads the term's values: that costs one more pass of head
        and terms, and under accumulation one of the trunk besides.
      num_rows: rows of the dataset that its table has; None without a table.
    """

    wants_values: ClassVar[bool] = True
    num_rows: int | None = None

    def initial(self) -> Tree:
        """Return its memory before the first step; part of every checkpoint."""
        return {}

    @abc.abstractmethod
    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        """Return the token weights, and its memory after this batch."""

    def explain_zero(self) -> str:
        """Return why it may be 0 at every token, for a message to the user."""
        return f"{type(self).__name__} is 0 at each of them"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceInputs:
    """Inputs of balances; no gradient flows into them.

    `means`, `inner` and `inner_of_parameters` are None where no balance reads them.

    Attributes:
      step: of the optimiser, from 0.
      means: by term, `L_i`: the sum of its values times its token weights, over the
        count of its tokens in the global batch.
      inner: inner products of the gradients of the `L_i` in the trunk's outputs that
        the terms read.
      inner_of_parameters: of their gradients in the parameters of student and losses.
      names: of the terms, in the order of both.
    """

    step: Int[Array, ""]
    means: Mapping[str, Float[Array, ""]] | None = None
    inner: Float[Array, "term term"] | None = None
    inner_of_parameters: Float[Array, "term term"] | None = None
    names: tuple[str, ...] = ()

    def value(self, of: Combination) -> Float[Array, ""]:
        """Return `Σ_i c_i L_i`."""
        assert self.means is not None  # a balance that reads it wants it
        parts = (times(c, self.means[name]) for name, c in of.items())
        return sum(parts, jnp.float32(0.0))

    def gradient_norm(self, of: Combination) -> Float[Array, ""]:
        """Return `‖∂ Σ_i c_i L_i‖` in the trunk's outputs that the terms read."""
        return jnp.sqrt(jnp.maximum(self.inner_product(of, of), 0.0))

    def inner_product(
        self,
        of: Combination,
        to: Combination,
        over: Literal["outputs", "parameters"] = "outputs",
    ) -> Float[Array, ""]:
        """Return `<∂ Σ_i c_i L_i, ∂ Σ_j d_j L_j>` in the trunk's outputs, or all."""
        inner = self.inner if over == "outputs" else self.inner_of_parameters
        assert inner is not None  # a balance that reads it wants it
        zero = jnp.float32(0.0)
        c, d = (
            jnp.stack([jnp.asarray(x.get(name, zero)) for name in self.names])
            for x in (of, to)
        )
        # A term of weight 0 has no part, whatever its gradient is.
        return jnp.sum(times(jnp.outer(c, d), inner))


def times(
    weight: Float[Array, "..."], value: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return `weight · value`, and exactly 0 at weight 0 where the value is no number.

    Its gradient is exactly 0 there too.
    """
    return jnp.where(weight == 0.0, 0.0, weight * value)


jax.tree_util.register_dataclass(
    BalanceInputs,
    data_fields=["step", "means", "inner", "inner_of_parameters"],
    meta_fields=["names"],
)


class Balance(abc.ABC):
    """A weight of a term or group as a function of the terms' values or gradients.

    Attributes:
      wants: `"values"` costs one more pass of head and terms, `"gradients"` one with a
        gradient a term; under accumulation, each costs one of the trunk besides.
        `"parameter gradients"` costs a backward pass of head and trunk a term, and the
        memory of all their gradients.
    """

    wants: ClassVar[Literal["nothing", "values", "gradients", "parameter gradients"]]

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the terms that it reads, besides those that it weights."""
        return ()

    def params(self) -> Tree:
        """Return its initial parameters, which are trained beside the student."""
        return {}

    def initial(self) -> Tree:
        """Return its memory before the first step; part of every checkpoint."""
        return {}

    @abc.abstractmethod
    def __call__(
        self, own: Combination, inputs: BalanceInputs, params: Tree, memory: Tree
    ) -> tuple[Float[Array, ""], Tree]:
        """Return the weight, float32, and its memory after this batch.

        Args:
          own: the term or group that it weights, before this weight.
          inputs: of the global batch.
          params: as of `params()`.
          memory: as of `initial()`.
        """

    def skips(self, own: Combination, inputs: BalanceInputs) -> Bool[Array, ""]:
        """Return whether it leaves a batch out, for what it reads there is no measure.

        A skipped batch is counted in the metrics. One that wants nothing is asked once
        the values are known: its parameters have no gradient then.
        """
        del own, inputs
        return jnp.bool_(False)

    def penalty(self, params: Tree) -> Float[Array, ""]:
        """Return a float32 scalar that is added to the objective."""
        del params
        return jnp.float32(0.0)
