"""Bases of the losses of preference pairs."""

import abc
import dataclasses
import math
from typing import get_args

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.masks import target_mask
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.preference.reference import Columns, check_stored, of_reference
from losses.preference.sequences import (
    Over,
    Pair,
    Rows,
    log_probabilities,
    of_sequences,
    pair_mask,
    to_tokens,
)


class PairLoss(Loss, abstract=True):
    """One value a pair, which every token of its row has.

    A row holds the chosen completion of a prompt as its segment 1 and the rejected one
    as its segment 2, targets in the completions alone (`data.PreferencePairs`). The
    term counts one token a pair (`pair_mask`), so that its mean is that of the pairs;
    with `mask=target_mask` long pairs would weigh more.
    """

    needs = frozenset({"logits"})
    scope = "sequence"
    reads = staticmethod(target_mask)
    default_mask = staticmethod(pair_mask)

    @abc.abstractmethod
    def of_pairs(self, outputs: Outputs) -> Rows:
        """Return the value of each row's pair, `[b]`."""

    def __call__(self, outputs: Outputs) -> PerToken:
        return to_tokens(self.of_pairs(outputs), outputs.batch["targets"].shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferencePairLoss(PairLoss, abstract=True):
    """Base of the losses of `h = log q(y_w)/p(y_w) - log q(y_l)/p(y_l)`.

    q is the student, p the reference: the teacher, which `runner.StartTeacher` makes
    the student as it starts; or columns of its log-probabilities.

    Attributes:
      reference: names of two columns (`data.Columns`) with the reference's sums of
        log-probabilities of chosen and of rejected; None for the teacher.
      over: the sum of a completion's log-probabilities, or their mean.

    Raises:
      ValueError: `reference` is no pair of names, or `over` no choice.
    """

    reference: Columns | None = None
    over: Over = "sum"

    def __post_init__(self):
        check_reference(self, self.reference)
        check_choice("over", self.over, get_args(Over))

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return needs_of(self.reference)

    def check_records(self, stored: RecordSpec) -> None:
        if self.reference is None:
            check_stored(type(self).__name__, stored)

    def sides(self, outputs: Outputs) -> tuple[Pair, Pair]:
        """Return the log-probabilities of student and reference."""
        student = of_sequences(log_probabilities(outputs), outputs, self.over)
        return student, of_reference(outputs, self.reference, self.over)


def needs_of(reference: Columns | None) -> frozenset[str]:
    """Return what a loss with such a reference needs."""
    teacher = {"teacher/logits"} if reference is None else set()
    return frozenset({"logits", *teacher})


def check_reference(loss: Loss, reference: Columns | None) -> None:
    """Refuse a reference that is not two names.

    Raises:
      ValueError: it is something else.
    """
    if reference is None:
        return
    names = isinstance(reference, (tuple, list)) and len(reference) == 2
    if not names or not all(isinstance(name, str) for name in reference):
        raise ValueError(
            f"reference of {type(loss).__name__} must be the names of two columns, or "
            f"None for the teacher; got {reference!r}"
        )


def check_positive(name: str, value: float) -> None:
    """Refuse a number that is not above 0 and finite.

    Raises:
      ValueError: with its name.
    """
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_smoothing(value: float) -> None:
    """Refuse a share of wrong labels that is not in [0, 1/2).

    Raises:
      ValueError: it is not.
    """
    if not 0.0 <= value < 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5), got {value}")
