"""A number of a loss as a function of the step."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import AsItsLoss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken, RecordSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduled(AsItsLoss):
    """`loss` with its number `field` as a function of the optimiser step.

        Scheduled(
            loss=ForwardKL(),
            field="temperature",
            schedule=optax.linear_schedule(4.0, 1.0, 1000),
        )

    Any optax schedule, of any field that is a float: a temperature, a skew, a margin, a
    β. Around another `Scheduled`, it reaches the loss inside that one: two numbers move
    at once. The schedule is not differentiated. It is checked at step 0 as the field
    is; what it is later is not. Wants whole rows of logits.

    Attributes:
      loss: sees each token, or each row, by itself.
      field: the name of one of its numbers.
      schedule: of the step, to a float32.

    Raises:
      ValueError: the loss has no such number, does not allow that of step 0, or wants
        means over the batch.
    """

    loss: Loss
    field: str
    schedule: Callable[[Any], Any]
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        inner = _innermost(self.loss)
        numbers = [
            field.name
            for field in dataclasses.fields(inner)  # pyright: ignore[reportArgumentType] - losses are dataclasses
            if field.type in (float, "float")
        ]
        moves = sorted(inner.initial().keys() & set(numbers))
        if self.field in moves:
            raise ValueError(
                f"{self.field} of {type(inner).__name__} follows the loss by itself, "
                "and takes no schedule; Interpolated's does"
            )
        if self.field not in numbers:
            raise ValueError(
                f"field of Scheduled must be a number of {type(inner).__name__} "
                f"({', '.join(numbers) or 'it has none'}), got {self.field!r}"
            )
        if not callable(self.schedule):
            raise ValueError(
                f"schedule must be a function of the step, got {self.schedule!r}"
            )
        start = float(self.schedule(0))
        if not math.isfinite(start):
            raise ValueError(f"the schedule of {self.field} is {start} at step 0")
        dataclasses.replace(inner, **{self.field: start})  # pyright: ignore[reportArgumentType] - as above

    def check_records(self, stored: RecordSpec) -> None:
        super().check_records(stored)
        if self.field == "temperature" and stored.mode != "full":
            raise ValueError(
                "records hold the mass outside of their entries for some temperatures "
                "alone, and a schedule passes others"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        value = jax.lax.stop_gradient(jnp.float32(self.schedule(outputs.step)))
        try:
            return _with(self.loss, self.field, value)(outputs)
        except (jax.errors.ConcretizationTypeError, TypeError) as error:
            name = type(_innermost(self.loss)).__name__
            raise IncompatibleLoss(
                f"{self.field} of {name} cannot follow the step: the form of the loss "
                "depends on it"
            ) from error


def _innermost(loss: Loss) -> Loss:
    return _innermost(loss.loss) if isinstance(loss, Scheduled) else loss


def _with(loss: Loss, field: str, value: Float[Array, ""]) -> Loss:
    """Return a copy with a traced number, which no check could read."""
    changed = copy.copy(loss)
    if isinstance(loss, Scheduled):
        object.__setattr__(changed, "loss", _with(loss.loss, field, value))
    else:
        object.__setattr__(changed, field, value)
    return changed
