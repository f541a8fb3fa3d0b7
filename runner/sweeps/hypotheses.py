"""Inductive bias of a model: how improbable a random solution is to generalise so."""

from collections.abc import Sequence

import numpy as np

from runner.errors import UserError, nearest
from runner.sweeps import outcome
from runner.sweeps.frozen import Frozen

FEWEST = 10
"""Units that a distribution of three numbers is fitted to, at least."""


def information(errors: Sequence[float], error: float) -> float:
    """Return `-log P(e <= ε)`, nats, of a distribution fitted to test errors.

    It is a scaled non-central χ² from 0 on, of greatest likelihood. Where its tail
    underflows, the normal distribution of its mean and variance stands for it.

    Source: "Towards exact computation of inductive bias" (arXiv:2406.15941).

    Args:
      errors: of solutions that were drawn alike, positive.
      error: ε.
    """
    from scipy import stats  # slow to import

    degrees, offset, _, scale = stats.ncx2.fit(np.asarray(errors, np.float64), floc=0)
    log_p = stats.ncx2.logcdf(error, degrees, offset, 0.0, scale)
    if not np.isfinite(log_p):
        mean = scale * (degrees + offset)
        deviation = scale * np.sqrt(2.0 * (degrees + 2.0 * offset))
        log_p = stats.norm.logcdf(error, mean, deviation)
    return float(-log_p)


def inductive_bias(frozen: Frozen, error: float, evaluation: str = "") -> float:
    """Return `-log P(e <= ε)`, nats, over the finished units of a sweep.

    The units are hypotheses drawn alike, such as `--seeds=100` of one model that fits
    the training data, or of one that is not trained; e is `1 - accuracy`. It is what
    the choice of the model leaves to be learned for an error of ε: the less, the
    stronger its bias towards the task. It depends on that draw and on ε; of ε below
    all errors it is the tail of the fit.

        inductive_bias(runner.sweeps.load("runs/seeds"), error=0.05)

    Source: as `information`.

    Args:
      frozen: the sweep.
      error: ε, above 0.
      evaluation: its name; "" for the first.

    Raises:
      UserError: there is no such evaluation, or it has no accuracy of enough units.
    """
    if not error > 0.0:
        raise UserError(f"error must be positive, got {error}")
    outcomes = outcome.read(frozen)
    names = outcome.evaluations(outcomes)
    if evaluation and evaluation not in names:
        raise UserError(f"no evaluation {evaluation!r}{nearest(evaluation, names)}")
    name = evaluation or (names[0] if names else "")
    accuracies = [one.metrics.get(f"{name}/accuracy") for one in outcomes]
    errors = [1.0 - accuracy for accuracy in accuracies if accuracy is not None]
    if len(errors) < FEWEST:
        raise UserError(
            f"{frozen.path}: {len(errors)} finished units have an accuracy, wanted: "
            f"{FEWEST} and more"
        )
    return information(np.maximum(errors, 1e-9).tolist(), error)
