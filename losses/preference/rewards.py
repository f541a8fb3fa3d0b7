"""Metrics of preference pairs: which completion has the greater reward, by how much."""

import dataclasses
import itertools
from typing import Literal, get_args

from losses.core.checks import check_choice
from losses.core.outputs import Outputs, RecordSpec
from losses.functional import preference
from losses.preference.pairs import (
    PairLoss,
    check_positive,
    check_reference,
    needs_of,
)
from losses.preference.reference import Columns, check_stored, of_reference
from losses.preference.sequences import (
    Over,
    Pair,
    Rows,
    log_probabilities,
    of_sequences,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardMetric(PairLoss, abstract=True):
    """Base of metrics of the rewards' difference `h`, as of `losses.DPO`.

    They are measured rather than learned: `Evaluation(metrics=[...])`.

    Attributes:
      reference: as of `losses.DPO`; "none" where a reward is the student's own
        log-probability, as of `losses.SimPO` (with `over="mean"`).
      over: the sum of a completion's log-probabilities, or their mean.

    Raises:
      ValueError: `reference` is no pair of names, or `over` no choice.
    """

    reference: Columns | Literal["none"] | None = None
    over: Over = "sum"

    def __post_init__(self):
        if self.reference != "none":
            check_reference(self, self.reference)
        check_choice("over", self.over, get_args(Over))

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        if self.reference == "none":
            return frozenset({"logits"})
        return needs_of(self.reference)

    def check_records(self, stored: RecordSpec) -> None:
        if self.reference is None:
            check_stored(type(self).__name__, stored)

    def sides(self, outputs: Outputs) -> tuple[Pair, ...]:
        """Return the log-probabilities of the student, and of a reference."""
        student = of_sequences(log_probabilities(outputs), outputs, self.over)
        if self.reference == "none":
            return (student,)
        return student, of_reference(outputs, self.reference, self.over)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairAccuracy(RewardMetric):
    """1 where `h > 0`, the chosen completion having the greater reward, else 0.

    Its mean is the share of the pairs that are the right way round. At the reference
    h is 0 but for rounding, and says nothing. TRL logs it as `rewards/accuracies`.
    """

    unit = "1"

    def of_pairs(self, outputs: Outputs) -> Rows:
        return preference.pair_accuracy(*itertools.chain(*self.sides(outputs)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardMargin(RewardMetric):
    """`β h`, nats: by how much the chosen completion's reward is the greater.

    TRL logs it as `rewards/margins`.

    Attributes:
      beta: β, that of the loss.

    Raises:
      ValueError: as `RewardMetric`, or β is not positive.
    """

    beta: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_positive("beta", self.beta)

    def of_pairs(self, outputs: Outputs) -> Rows:
        both = itertools.chain(*self.sides(outputs))
        return preference.reward_margin(*both, beta=self.beta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionLogProbability(PairLoss):
    """`log q(y)` of the chosen or the rejected completion y, nats.

    Two terms of weight 0, one a side, have `--gin.diagnostics.every=100` measure the
    gradients g_w and g_l of both: with h a margin loss of `log q(y_w) - log q(y_l)`, a
    small step of plain gradient descent changes these by

        c (‖g_w‖² - <g_w, g_l>)  and  c (<g_w, g_l> - ‖g_l‖²)

    so that both fall where `‖g_w‖² <= <g_w, g_l> <= ‖g_l‖²`, and both rise in the
    mirrored case: gradient entanglement.

    Source: Yuan et al. 2024 (arXiv:2410.13828).

    Attributes:
      of: `"chosen"` or `"rejected"`.
      over: the sum of its log-probabilities, or their mean.

    Raises:
      ValueError: a word is none of these.
    """

    of: Literal["chosen", "rejected"]
    over: Over = "sum"

    def __post_init__(self):
        check_choice("of", self.of, ("chosen", "rejected"))
        check_choice("over", self.over, get_args(Over))

    def of_pairs(self, outputs: Outputs) -> Rows:
        sides = of_sequences(log_probabilities(outputs), outputs, self.over)
        return sides.first if self.of == "chosen" else sides.second
