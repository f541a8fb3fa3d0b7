"""The units of a sweep along one axis: a line for each setting of everything else."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from runner.sweeps import points
from runner.sweeps.outcome import Outcome, evaluations, finite

_RATES = ("learning_rate", "peak_value", "init_value")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Units that differ in one value alone, in the order of that value.

    label: the setting of the others, `z_loss.weight=0.0001`; empty where nothing else
      is swept.
    """

    label: str
    values: Sequence[Any]
    outcomes: Sequence[Outcome]


def learning_rate(keys: Sequence[str]) -> str | None:
    """The flag that is a learning rate, if one is.

    One below `fdl.optimizer` whose last name is `learning_rate`, else `peak_value`,
    else `init_value`.
    """
    ours = [key for key in keys if key.startswith("fdl.optimizer")]
    rates = [key for name in _RATES for key in ours if key.rpartition(".")[2] == name]
    return rates[0] if rates else None


def axis(outcomes: Sequence[Outcome]) -> str | None:
    """The flag that a picture has along its foot: the learning rate, or a number."""
    keys = list(dict.fromkeys(key for o in outcomes for key in o.unit.point))
    numeric = [key for key in keys if is_numeric(outcomes, key)]
    return learning_rate(numeric) or next(iter(numeric), next(iter(keys), None))


def is_numeric(outcomes: Sequence[Outcome], key: str) -> bool:
    """Whether every unit has a number there."""
    values = [outcome.unit.point.get(key) for outcome in outcomes]
    return all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in values)


def along(
    outcomes: Sequence[Outcome], key: str, names: Mapping[str, str]
) -> list[Setting]:
    """Units by what they are set to besides `key`, in the order of the points."""
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
    """The loss at initialisation on the first evaluation, if a unit measured it.

    A learning rate does not touch it: of the units of a setting any will do.
    """
    (name,) = evaluations(outcomes)[:1] or [""]
    values = [outcome.untrained.get(name) for outcome in outcomes]
    return next((value for value in values if finite(value)), None)


def losses(setting: Setting, evaluation: str) -> list[float | None]:
    """Of each unit; None where it diverged, failed, or has not ended."""
    values = [outcome.losses.get(evaluation) for outcome in setting.outcomes]
    return [value if finite(value) else None for value in values]
