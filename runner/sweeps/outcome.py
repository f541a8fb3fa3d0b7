"""Outcomes of units, read from their work directories."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from runner.report import run
from runner.sweeps import failure
from runner.sweeps.frozen import Frozen, Unit


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The state and losses of a unit.

    Attributes:
      unit: the unit.
      state: `finished`, `failed, exit code 1: ...`, `at step 40 of 60`, `not begun`.
      losses: loss by evaluation, of a finished unit; units are compared by the first.
      untrained: loss by evaluation before the first step, as far as measured.
      metrics: final metrics of a finished unit, as `held_out/accuracy`.
      target: the unit of one target: `"token"`, `"image"`.
    """

    unit: Unit
    state: str
    losses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    untrained: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    target: str = "token"

    @property
    def ended(self) -> bool:
        """True if the unit finished or failed."""
        return self.unit.finished or self.failed

    @property
    def failed(self) -> bool:
        """True if the unit ended without a result."""
        return self.state.startswith("failed")


def read(frozen: Frozen) -> list[Outcome]:
    """Return the outcomes in the order of the units."""
    return [_outcome(unit) for unit in frozen.units]


def evaluations(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the evaluations that any unit has, the one to compare first."""
    names = [name for outcome in outcomes for name in outcome.losses]
    names += [name for outcome in outcomes for name in outcome.untrained]
    return list(dict.fromkeys(names))


def finite(value: float | None) -> bool:
    """Return True for a finite number."""
    return value is not None and math.isfinite(value)


def best(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the finished unit with the least loss on the first evaluation."""
    (name,) = evaluations(outcomes)[:1] or [""]
    able = [outcome for outcome in outcomes if finite(outcome.losses.get(name))]
    return min(able, key=lambda outcome: outcome.losses[name], default=None)


def _outcome(unit: Unit) -> Outcome:
    loaded = run.load(unit.path)
    results = loaded.results if unit.finished else {}
    losses = {
        name: loss for name, x in results.items() if (loss := x.get("loss")) is not None
    }
    metrics = {
        f"{name}/{metric}": value
        for name, x in results.items()
        for metric, value in x.items()
        if value is not None
    }
    state, untrained = _state(unit, loaded), _untrained(loaded)
    return Outcome(unit, state, losses, untrained, metrics, loaded.unit)


def _state(unit: Unit, loaded: run.Run) -> str:
    if unit.finished:
        return "finished"
    if message := failure.message(unit):
        return message
    if loaded.metrics:
        total = f" of {loaded.num_steps}" if loaded.num_steps else ""
        return f"at step {loaded.last_step}{total}"
    return "not begun"


def _untrained(loaded: run.Run) -> dict[str, float]:
    losses = {name: loaded.untrained(name).get("loss") for name in loaded.measured}
    return {name: loss for name, loss in losses.items() if loss is not None}
