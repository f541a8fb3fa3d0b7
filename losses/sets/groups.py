"""Objectives over groups of rows: the worst group, and how far groups differ."""

import dataclasses
import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.batch_weights import BatchValues, Reweighting
from losses.core.checks import check_choice, check_inner
from losses.core.columns import column
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.of_means import Means, OfMeans
from losses.core.outputs import Outputs
from losses.core.vocab_sums import TiledOutputs
from losses.functional import sets

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverGroups(OfLoss, OfMeans):
    """A function of the mean values `L_g` of a loss in each group g.

    * `"worst"`: `max_g L_g`; the gradient is that of the worst group alone;
    * `"mean"`: `mean_g L_g`, each group alike however many tokens it has;
    * `"spread"`: `max_g L_g - min_g L_g`, `"variance"`: `mean_g (L_g - mean L)²`, and
      `"deviation"`: `Σ_g |L_g - mean L|`: terms beside the loss itself, whose weight
      trades it for fairness.

    Groups without a counted token in the global batch are left out. Whatever the batch
    is cut into, a group's mean is that of the global batch.

    Source: worst-group and fairness-regularized training as arXiv:2509.25795 compares
    them; the worst group's with a memory is `GroupDRO`.

    Attributes:
      loss: sees each token by itself.
      column: of the rows' groups, ids from 0 (`data.Columns`); a token of another id is
        in no group.
      num_groups: of ids.
      rule: the function.

    Raises:
      ValueError: there is no such rule or no group, or `loss` wants means itself or has
        a memory.
    """

    loss: Loss
    column: str
    num_groups: int
    rule: sets.GroupRule = "worst"

    def __post_init__(self):
        check_inner(self, self.loss)
        if self.loss.initial():
            kind = type(self.loss).__name__
            raise ValueError(f"loss of OverGroups must have no memory, got {kind}")
        check_groups(self.num_groups)
        check_choice("rule", self.rule, get_args(sets.GroupRule))

    @property
    def tiled(self) -> bool | None:  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return self.loss.tiled

    def statistics(self, outputs: Outputs) -> dict[str, Float[Array, "*b g"]]:
        """Return which group each token is of, and its value there, `[*b g]`."""
        by_tiles = isinstance(outputs, TiledOutputs)
        values = self.loss.call_tiled(outputs) if by_tiles else self.loss(outputs)
        ids = column(outputs.batch, self.column).astype(jnp.int32)
        members = jax.nn.one_hot(ids, self.num_groups, dtype=jnp.float32)
        return {"share": members, "value": members * values[..., None]}

    def of_means(self, means: Means) -> Float[Array, ""]:
        return sets.over_groups_of_means(means, rule=self.rule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupDRO(Reweighting):
    """`q_g N / n_g` for each token of group g, with `q_g ∝ q_g exp(η L_g)` a step.

    So the term is `Σ_g q_g L_g`: groups with a higher loss weigh more, and q is part of
    the train state. From `q_g = 1/G`; a group without a counted token in a batch keeps
    its q relative to the others and adds nothing there. At `η = 0` all groups weigh
    alike.

    Source: Sagawa et al. 2019 (arXiv:1911.08731), algorithm 1.

    Attributes:
      column: of the rows' groups, ids from 0 (`data.Columns`); a token of another id is
        in no group.
      num_groups: G.
      step_size: η.

    Raises:
      ValueError: there is no group, or the step size is negative or not finite.
    """

    column: str
    num_groups: int
    step_size: float = 0.01

    def __post_init__(self):
        check_groups(self.num_groups)
        if not 0.0 <= self.step_size < math.inf:
            raise ValueError(f"step_size must be at least 0, got {self.step_size}")

    def initial(self) -> Tree:
        return {"log_q": jnp.zeros(self.num_groups, jnp.float32)}

    def __call__(
        self, inputs: BatchValues, memory: Tree
    ) -> tuple[Float[Array, "b ..."], Tree]:
        # The mean value of each group.
        assert inputs.values is not None  # `wants_values`
        ids = column(inputs.batch, self.column).astype(jnp.int32)
        members = jax.nn.one_hot(ids, self.num_groups, dtype=jnp.float32)
        members = members * inputs.mask[..., None].astype(jnp.float32)
        axes = tuple(range(inputs.mask.ndim))
        counts = jnp.sum(members, axis=axes)
        sums = jnp.sum(members * inputs.values[..., None], axis=axes)
        means = sums / jnp.maximum(counts, 1.0)

        # The new q, and what each token is worth under it.
        usable = jnp.isfinite(means) & (counts > 0.0)
        moved = memory["log_q"] + self.step_size * jnp.where(usable, means, 0.0)
        log_q = jax.nn.log_softmax(moved)
        of_group = jnp.exp(log_q) * jnp.sum(counts) / jnp.maximum(counts, 1.0)
        return members @ jnp.where(counts > 0.0, of_group, 0.0), {"log_q": log_q}

    def explain_zero(self) -> str:
        return f"no token has a group of {self.column!r} below {self.num_groups}"


def check_groups(num_groups: int) -> None:
    """Refuse a number of groups below 1.

    Raises:
      ValueError: it is.
    """
    if num_groups < 1:
        raise ValueError(f"num_groups must be at least 1, got {num_groups}")
