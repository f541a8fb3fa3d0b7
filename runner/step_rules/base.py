"""The interface of a step rule."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from jaxtyping import Array, Float, Int

Tree = Any


class Slopes(Protocol):
    """The slopes of the logits of a step; `runner.step.logit_slopes` computes them."""

    def largest(
        self,
        direction: Tree,
        per_token: Callable[[Float[Array, "*b v"]], Float[Array, "*b"]],
        *,
        rows: int | None = None,
    ) -> Float[Array, ""]:
        """Return the largest number of a token that counts, over all devices.

        Args:
          direction: like the student's parameters.
          per_token: of the slopes of some tokens `[*b v]`.
          rows: of the batch to look at, evenly spread; None for all.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRuleContext:
    """A step between its optimiser and its weights.

    Attributes:
      step: finished steps.
      params: `TrainState.params` before the step, float32.
      value: the objective on the global batch.
      slopes: derivatives of the logits of the batch along directions of the student's
        parameters.
      first: what the rule's `first` returned before the first step.
    """

    step: Int[Array, ""]
    params: Tree
    value: Float[Array, ""]
    slopes: Slopes
    first: Tree = dataclasses.field(default_factory=dict)


class StepRule(abc.ABC):
    """A change of the updates before they are added to the weights.

    Attributes:
      numbers: names of what it logs.
    """

    numbers: ClassVar[tuple[str, ...]] = ()

    def first(self, params: Tree) -> Tree:
        """Return what to keep of the parameters before the first step: nothing."""
        del params
        return {}

    @abc.abstractmethod
    def __call__(
        self, updates: Tree, context: StepRuleContext
    ) -> tuple[Tree, Mapping[str, Float[Array, ""]]]:
        """Return the updates to add, and its numbers by name.

        Args:
          updates: like `context.params`, float32.
          context: the step; its arrays are those of all devices together.
        """
