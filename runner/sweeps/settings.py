"""The units of a sweep along one axis: a line for each setting of everything else."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from runner.sweeps import points, seeds
from runner.sweeps.outcome import Outcome, evaluations, finite

_RATES = ("learning_rate", "peak_value", "init_value")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Units that differ in one value alone, in the order of that value.

    Attributes:
      label: the other values, `z_loss.weight=0.0001`; empty if none is swept.
      values: the values that differ, in order.
      outcomes: the outcome at each value.
    """

    label: str
    values: Sequence[Any]
    outcomes: Sequence[Outcome]


def learning_rate(flags: Sequence[str]) -> str | None:
    """Return the flag that is a learning rate, if any.

    It is the flag below `fdl.optimizer` whose last name is `learning_rate`, else
    `peak_value`, else `init_value`.
    """
    ours = [key for key in flags if key.startswith("fdl.optimizer")]
    rates = [key for name in _RATES for key in ours if key.rpartition(".")[2] == name]
    return rates[0] if rates else None


def axis(outcomes: Sequence[Outcome]) -> str | None:
    """Return the flag of the x-axis: the learning rate, else one that is numeric."""
    swept = keys(outcomes)
    numeric = [key for key in swept if is_numeric(outcomes, key)]
    return learning_rate(numeric) or next(iter(numeric), next(iter(swept), None))


def keys(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the flags that are swept, less the seed, along which nothing goes."""
    swept = dict.fromkeys(key for o in outcomes for key in o.unit.point)
    return [key for key in swept if key != seeds.axis(swept)]


def is_numeric(outcomes: Sequence[Outcome], key: str) -> bool:
    """Return True if the flag `key` is a number in every unit."""
    values = [outcome.unit.point.get(key) for outcome in outcomes]
    return all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in values)


def along(
    outcomes: Sequence[Outcome], key: str, names: Mapping[str, str]
) -> list[Setting]:
    """Group units by their values besides `key`, in the order of the points."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if key in outcome.unit.point:
            others = {k: x for k, x in outcome.unit.point.items() if k != key}
            groups.setdefault(points.label(others, names), []).append(outcome)
    numeric = is_numeric(outcomes, key)
    settings = []
    for label, group in groups.items():
        if numeric:
            group = sorted(group, key=lambda outcome: outcome.unit.point[key])
        values = [outcome.unit.point[key] for outcome in group]
        settings.append(Setting(label, values, group))
    return settings


def untrained(outcomes: Sequence[Outcome]) -> float | None:
    """Return the loss at initialisation on the first evaluation, if measured.

    It does not depend on the learning rate, so any unit of a setting will do.
    """
    (name,) = evaluations(outcomes)[:1] or [""]
    values = [outcome.untrained.get(name) for outcome in outcomes]
    return next((value for value in values if finite(value)), None)


def losses(setting: Setting, evaluation: str) -> list[float | None]:
    """Return the loss of each unit; None if it diverged, failed, or has not ended."""
    values = [outcome.losses.get(evaluation) for outcome in setting.outcomes]
    return [value if finite(value) else None for value in values]
