"""Kahneman-Tversky optimization: completions that are judged one by one."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp

from losses.core.columns import row_column
from losses.core.loss import Loss
from losses.core.masks import target_mask
from losses.core.outputs import Outputs, PerToken, RecordSpec
from losses.functional import preference
from losses.preference.pairs import check_positive, check_reference, needs_of
from losses.preference.reference import Columns, check_stored, of_reference
from losses.preference.sequences import (
    Pair,
    log_probabilities,
    of_sequences,
    sequence_mask,
    to_tokens,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KTO(Loss):
    """`w (1 - σ(±β (r - z)))` a completion, `r = log q(y)/p(y)`; + if desirable.

    `z = max(0, E[log q(y')/p(y')])`, without a gradient, over completions y' of other
    prompts, the second sequence of each row (`data.JudgedCompletions`); 0 where the
    rows have none. It is that of the *global* batch, for the price of one more pass.

    Source: Ethayarajh et al. 2024 (arXiv:2402.01306), eq. 7 and 8; `desirable` 1 or 0.

    Attributes:
      beta: β.
      desirable_weight: w of the desirable.
      undesirable_weight: w of the others. Their numbers times their weights should be
        within 4/3 of each other.
      desirable: name of the column that says it.
      reference: names of two columns with the reference's sums of log-probabilities of
        y and of y'; None for the teacher.

    Raises:
      ValueError: β is not positive, a weight not at least 0, or `reference` no pair.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    desirable: str = "desirable"
    reference: Columns | None = None

    scope = "sequence"
    reads = staticmethod(target_mask)
    default_mask = staticmethod(sequence_mask)
    unit = "1"

    def __post_init__(self):
        check_positive("beta", self.beta)
        check_reference(self, self.reference)
        for name in ("desirable_weight", "undesirable_weight"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be at least 0, got {getattr(self, name)}"
                )

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return needs_of(self.reference)

    def check_records(self, stored: RecordSpec) -> None:
        if self.reference is None:
            check_stored(type(self).__name__, stored)

    def statistics(self, outputs: Outputs) -> Mapping[str, PerToken]:
        """Return `gap`: `log q(y')/p(y')` of the row."""
        student, reference = self._sides(outputs)
        gap = student.second - reference.second
        return {"gap": to_tokens(gap, outputs.batch["targets"].shape)}

    def __call__(self, outputs: Outputs) -> PerToken:
        student, reference = self._sides(outputs)
        values = preference.kto(
            student.first,
            reference.first,
            row_column(outputs.batch, self.desirable),
            jnp.maximum(outputs.statistics["gap"], 0.0),
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        return to_tokens(values, outputs.batch["targets"].shape)

    def _sides(self, outputs: Outputs) -> tuple[Pair, Pair]:
        student = of_sequences(log_probabilities(outputs), outputs, "sum")
        return student, of_reference(outputs, self.reference, "sum")
