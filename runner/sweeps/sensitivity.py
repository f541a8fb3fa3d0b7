"""Learning-rate sensitivity of a result."""

from collections.abc import Sequence

import numpy as np

from runner.sweeps.outcome import evaluations
from runner.sweeps.settings import Setting, losses, untrained


def sensitivity(losses: Sequence[float | None], untrained: float) -> float:
    """`mean_η min(l(η), l_0) - l*`, in the unit of the losses.

    The mean is over the learning rates tried, `l_0` the loss at initialisation and
    `l*` the best of what is averaged. A run that diverged, or failed, has no loss
    (None, NaN) and counts with `l_0`.

    Source: Wortsman et al. 2023 (arXiv:2309.14322), section 2.2.
    """
    values = np.array([np.nan if loss is None else loss for loss in losses])
    capped = np.fmin(values, untrained)  # NaN is passed over.
    return float(capped.mean() - capped.min())


def of(setting: Setting) -> float | None:
    """Return the sensitivity of one setting; None while it is undefined.

    Defined with two learning rates, once every unit has ended, one of them with a loss,
    and the loss at initialisation is known.
    """
    (name,) = evaluations(setting.outcomes)[:1] or [""]
    at_start, unit_losses = untrained(setting.outcomes), losses(setting, name)
    if at_start is None or len(set(setting.values)) < 2:
        return None
    if all(loss is None for loss in unit_losses):
        return None
    if not all(outcome.ended for outcome in setting.outcomes):
        return None
    return sensitivity(unit_losses, at_start)


def without_loss(settings: Sequence[Setting]) -> list[str]:
    """Return the names of units that count with the loss at initialisation."""
    return [
        outcome.unit.name
        for setting in settings
        for outcome, loss in zip(
            setting.outcomes,
            losses(setting, (evaluations(setting.outcomes) or [""])[0]),
            strict=True,
        )
        if loss is None and outcome.ended
    ]
