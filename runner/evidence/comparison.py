"""Settings compared over seeds, one metric at a time."""

import dataclasses
from collections.abc import Mapping, Sequence

from runner.evaluation.directions import more_is_better
from runner.evidence import intervals
from runner.evidence.intervals import Spread

Values = Mapping[str, Mapping[int, float]]
"""By setting, the value of each seed."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A setting beside the baseline.

    Attributes:
      setting: its label.
      spread: of its values; None before any seed has ended.
      difference: of `value - baseline` at the seeds that both have; None for the
        baseline itself, and without common seeds.
      is_best: whether its mean is the best.
      is_certain: whether it is the best, and the interval of its difference from the
        baseline (of the baseline: from the next best) excludes zero.
    """

    setting: str
    spread: Spread | None
    difference: Spread | None = None
    is_best: bool = False
    is_certain: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All settings at one metric.

    Attributes:
      metric: its name, `held_out/loss`.
      baseline: label of the setting that the others are compared with.
      rows: one a setting.
    """

    metric: str
    baseline: str
    rows: Sequence[Row]


def compare(metric: str, values: Values, baseline: str) -> Comparison:
    """Compare settings at one metric.

    Args:
      metric: its name, which says whether more is better.
      values: by setting and seed, finite.
      baseline: a setting of `values`.
    """
    spreads = {
        setting: intervals.of(list(by_seed.values())) if by_seed else None
        for setting, by_seed in values.items()
    }
    differences = {
        setting: None if setting == baseline else _paired(by_seed, values[baseline])
        for setting, by_seed in values.items()
    }
    # The best by its mean; the earlier of two that are equal.
    sign = -1.0 if more_is_better(metric) else 1.0
    ranked = sorted(
        (sign * spread.mean, i, setting)
        for i, (setting, spread) in enumerate(spreads.items())
        if spread is not None
    )
    order = [setting for *_, setting in ranked]
    best = order[0] if order[1:] else None
    # Apart from the baseline; if it is the baseline, from the next best.
    apart = None
    if best is not None:
        apart = differences[order[1] if best == baseline else best]
    is_certain = apart is not None and apart.excludes_zero
    rows = [
        Row(
            setting,
            spread,
            differences[setting],
            is_best=setting == best,
            is_certain=setting == best and is_certain,
        )
        for setting, spread in spreads.items()
    ]
    return Comparison(metric, baseline, rows)


def _paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    common = [seed for seed in ours if seed in theirs]
    if not common:
        return None
    return intervals.of([ours[seed] - theirs[seed] for seed in common])
