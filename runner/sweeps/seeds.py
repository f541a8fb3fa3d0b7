"""Seeds as an axis of a sweep: points for each, and what they say of the settings."""

import math
from collections.abc import Iterable, Mapping, Sequence

from runner.errors import UserError, nearest
from runner.evidence.comparison import Comparison, compare
from runner.sweeps import points
from runner.sweeps.frozen import Frozen
from runner.sweeps.outcome import Outcome

KEY = "fdl.seed"
_UNCOMPARED = ("share",)


def over(sweep_points: Sequence[points.Point], first: int, count: int) -> list:
    """Return every point at `count` seeds, from `first` on; the seed varies fastest.

    Raises:
      UserError: the points set the seed themselves.
    """
    seeds = points.values(KEY, *range(first, first + count))
    return points.product(sweep_points, seeds) if sweep_points else seeds


def axis(keys: Iterable[str]) -> str | None:
    """Return the flag that is a seed: the one whose last name is `seed`, if any."""
    return next((key for key in keys if key.rpartition(".")[2] == "seed"), None)


def comparisons(frozen: Frozen, outcomes: Sequence[Outcome]) -> list[Comparison]:
    """Compare the settings over their seeds at each metric that ended units have.

    Raises:
      UserError: the baseline that the sweep names is no setting.
    """
    key = axis(frozen.names)
    if key is None:
        return []
    by_setting: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        label = setting(outcome.unit.point, key, frozen.names)
        by_setting.setdefault(label, []).append(outcome)
    baseline = named(frozen.baseline, list(by_setting))
    metrics = dict.fromkeys(name for o in outcomes for name in o.metrics)
    return [
        compare(
            metric,
            {label: _values(metric, key, some) for label, some in by_setting.items()},
            baseline,
        )
        for metric in metrics
        if metric.rpartition("/")[2] not in _UNCOMPARED
    ]


def setting(point: Mapping[str, object], key: str, names: Mapping[str, str]) -> str:
    """Return the label of a point without its seed; `all` if nothing else is swept."""
    others = {k: value for k, value in point.items() if k != key}
    return points.label(others, names) or "all"


def named(baseline: str, settings: Sequence[str]) -> str:
    """Return the setting that `--baseline` names: the first one if it is empty.

    Raises:
      UserError: it names none, or several.
    """
    exact = [label for label in settings if label == baseline]
    matches = exact or [label for label in settings if baseline in label]
    if not matches:
        raise UserError(
            f"--baseline={baseline}: no such setting{nearest(baseline, settings)}"
        )
    if baseline and len(matches) > 1:
        raise UserError(
            f"--baseline={baseline}: several settings: {', '.join(matches)}"
        )
    return matches[0]


def _values(metric: str, key: str, outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Return the finite value of each seed."""
    return {
        outcome.unit.point[key]: value
        for outcome in outcomes
        if (value := outcome.metrics.get(metric)) is not None and math.isfinite(value)
    }
