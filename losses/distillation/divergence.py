"""What every divergence between teacher and student shares."""

import dataclasses
import difflib
import math
from typing import ClassVar, get_args

from losses.core.base import Loss, Outputs, PerToken, Stored
from losses.core.vocab_sums import Distribution, NeedsRows, Reduced
from losses.distillation.alignment import Entries, OverRecords, align, teacher_of

OVER_ENTRIES: tuple[str, ...] = tuple(
    name for name in get_args(OverRecords) if name != "sampled"
)


def check_temperature(temperature: float) -> None:
    """Refuses what is no temperature.

    Raises:
      ValueError: it is not positive and finite.
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive, got {temperature}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Divergence(Loss):
    """`D(p, q)`, nats, of the teacher's `p = softmax(t / T)` and `q = softmax(s / T)`.

    A concrete divergence defines `between`.

    temperature: T; probabilities of both sides are taken at it.
    scale_by_temperature_squared: whether values are times `T²`, so that gradients keep
        their size as T grows (Hinton et al. 2015, arXiv:1503.02531, section 2). Off,
        so that a value is the divergence.
    over_records: `losses.OverRecords`, what to compare over stored entries;
        whole logits are compared whole.

    Raises:
      ValueError: the temperature is not positive, or `over_records` is no convention of
        this divergence.
    """

    temperature: float = 1.0
    scale_by_temperature_squared: bool = False
    over_records: OverRecords = "tail_bucket"

    needs = frozenset({"logits", "teacher/logits"})
    conventions: ClassVar[tuple[str, ...]] = OVER_ENTRIES

    def __post_init__(self):
        check_temperature(self.temperature)
        if self.over_records not in self.conventions:
            raise ValueError(self._not_a_convention())

    def between(self, entries: Entries) -> PerToken:
        """`D` over aligned entries, `[*b]`, before any scale."""
        raise NotImplementedError(f"{type(self).__name__} does not define between")

    def over_draws(self, outputs: Outputs) -> PerToken:
        """An unbiased estimate of `D` from draws, `[*b]`, before any scale.

        Raises:
          ValueError: this divergence has none.
        """
        raise ValueError(f"{type(self).__name__} cannot be estimated from draws")

    def check_records(self, stored: Stored) -> None:
        name = type(self).__name__
        if stored.mode == "full":
            return
        if stored.mode == "sampled" and "sampled" not in self.conventions:
            raise ValueError(
                f"{name} cannot be estimated from draws, and the records hold draws; "
                f"ForwardKl(over_records='sampled') can"
            )
        if (stored.mode == "sampled") != (self.over_records == "sampled"):
            held = "draws" if stored.mode == "sampled" else "the best entries"
            wanted = "draws" if self.over_records == "sampled" else "the best entries"
            raise ValueError(
                f"{name}(over_records={self.over_records!r}) reads {wanted}, and the "
                f"records hold {held}"
            )
        if self.temperature not in stored.temperatures:
            known = ", ".join(map(str, stored.temperatures)) or "none"
            raise ValueError(
                f"{name} wants temperature {self.temperature}, which the records were "
                f"not made for; stored: {known}"
            )

    def __call__(self, outputs: Outputs) -> PerToken:
        if teacher_of(outputs).logits is None and self.over_records == "sampled":
            value = self.over_draws(outputs)
        else:
            value = self.between(
                align(
                    outputs,
                    temperature=self.temperature,
                    over_records=self.over_records,
                )
            )
        return self._scaled(value)

    def over_tiles(self, outputs: Reduced) -> PerToken:
        if teacher_of(outputs).indices is not None:
            return self(outputs)
        return self._scaled(self.between_sums(outputs, *outputs.both(self.temperature)))

    def between_sums(
        self, outputs: Reduced, p: Distribution, q: Distribution
    ) -> PerToken:
        """`D` of whole distributions, `[*b]`, before any scale.

        Raises:
          NeedsRows: it is no function of sums found in one pass.
        """
        raise NeedsRows

    def _scaled(self, value: PerToken) -> PerToken:
        if self.scale_by_temperature_squared:
            return value * self.temperature**2
        return value

    def _not_a_convention(self) -> str:
        name = type(self).__name__
        valid = ", ".join(map(repr, self.conventions))
        message = f"over_records of {name} must be one of {valid}, "
        message += f"got {self.over_records!r}"
        if self.over_records == "sampled":
            return f"{message}: only ForwardKl can be estimated from draws"
        near = difflib.get_close_matches(str(self.over_records), self.conventions, n=1)
        return f"{message}; nearest: {near[0]!r}" if near else message
