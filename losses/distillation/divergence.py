"""Base of divergences between teacher and student distributions."""

import abc
import dataclasses
import difflib
import math
from typing import ClassVar, Literal, get_args

import jax

from losses.core.loss import Loss
from losses.core.outputs import NeedsFullLogits, Outputs, PerToken, RecordSpec
from losses.core.tiles import Distribution
from losses.core.vocab_sums import TiledOutputs
from losses.distillation.alignment import (
    OVER_ENTRIES_ALONE,
    Entries,
    SparseMode,
    align,
    teacher_of,
)

OVER_ENTRIES: tuple[str, ...] = tuple(
    name for name in get_args(SparseMode) if name != "sampled"
)
BesideZero = Literal["nothing", "finite", "infinite"]
"""The cost of an entry that the student has and the teacher lacks."""

_ZERO_OUTSIDE = ("renormalize_teacher", "residual_to_target")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive and finite.

    Raises:
      ValueError: it is not.
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive, got {temperature}")


def always_zero(number: float) -> bool:
    """Return whether a number is 0 at every step; one of a schedule is not."""
    return not isinstance(number, jax.Array) and number == 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Divergence(Loss, abstract=True):
    """`D(p, q)`, nats, of the teacher's `p = softmax(t / T)` and `q = softmax(s / T)`.

    A subclass defines `divergence`, and `divergence_from_sums` if it is a function of
    sums over the vocabulary.

    Attributes:
      temperature: T, of both sides.
      scale_by_temperature_squared: whether values are times `T²`, so that gradients
        keep their size as T grows (Hinton et al. 2015, arXiv:1503.02531, section 2).
        Off, so that a value is the divergence.
      sparse: the `losses.SparseMode` for stored entries; whole logits need none.
      conventions: the choices of `sparse` that a class accepts.

    Raises:
      ValueError: the temperature is not positive, or `sparse` is no convention of
        this divergence, or one under which it is infinite.
    """

    temperature: float = 1.0
    scale_by_temperature_squared: bool = False
    sparse: SparseMode = "tail_bucket"

    needs = frozenset({"logits", "teacher/logits"})
    conventions: ClassVar[tuple[str, ...]] = OVER_ENTRIES

    def __post_init__(self):
        check_temperature(self.temperature)
        if self.sparse not in self.conventions:
            raise ValueError(self._unknown_mode_message())
        if self.sparse in _ZERO_OUTSIDE and self.beside_zero == "infinite":
            finite = [x for x in self.conventions if x not in _ZERO_OUTSIDE]
            raise ValueError(
                f"{type(self).__name__}(sparse={self.sparse!r}) is infinite: that "
                f"teacher has no mass outside of its entries, and every student has; "
                f"finite: {', '.join(map(repr, finite))}"
            )

    @property
    def beside_zero(self) -> BesideZero:
        """Under `"infinite"`, a teacher without mass outside its entries is refused."""
        return "finite"

    @abc.abstractmethod
    def divergence(self, entries: Entries) -> PerToken:
        """Return `D` over aligned entries, `[*b]`, before any scale."""

    def divergence_from_samples(self, outputs: Outputs) -> PerToken:
        """Return an unbiased estimate of `D` from draws, `[*b]`, before any scale.

        Raises:
          ValueError: this divergence has none.
        """
        raise ValueError(f"{type(self).__name__} cannot be estimated from draws")

    def check_records(self, stored: RecordSpec) -> None:
        name = type(self).__name__
        if stored.mode == "full":
            return
        if stored.mode == "sampled" and "sampled" not in self.conventions:
            raise ValueError(
                f"{name} cannot be estimated from draws, and the records hold draws; "
                f"ForwardKL(sparse='sampled') can"
            )
        if (stored.mode == "sampled") != (self.sparse == "sampled"):
            contents = "draws" if stored.mode == "sampled" else "the best entries"
            readable = "draws" if self.sparse == "sampled" else "the best entries"
            raise ValueError(
                f"{name}(sparse={self.sparse!r}) reads {readable}, and the "
                f"records hold {contents}"
            )
        if not stored.temperatures:
            if self.sparse in OVER_ENTRIES_ALONE:
                return
            valid = " or ".join(x for x in self.conventions if x in OVER_ENTRIES_ALONE)
            raise ValueError(
                f"{name}(sparse={self.sparse!r}) reads the teacher's mass outside of "
                f"its entries, which the records do not know; wanted: sparse={valid}"
            )
        stored.require_temperature(self.temperature, name)

    def __call__(self, outputs: Outputs) -> PerToken:
        if teacher_of(outputs).logits is None and self.sparse == "sampled":
            value = self.divergence_from_samples(outputs)
        else:
            value = self.divergence(
                align(
                    outputs,
                    temperature=self.temperature,
                    sparse=self.sparse,
                    student_rest=self.beside_zero != "nothing",
                )
            )
        return self._scaled(value)

    def call_tiled(self, outputs: TiledOutputs) -> PerToken:
        if teacher_of(outputs).indices is not None:
            return self(outputs)
        return self._scaled(
            self.divergence_from_sums(outputs, *outputs.both(self.temperature))
        )

    def divergence_from_sums(
        self, outputs: TiledOutputs, p: Distribution, q: Distribution
    ) -> PerToken:
        """Return `D` of whole distributions, `[*b]`, before any scale.

        Raises:
          NeedsFullLogits: it is no function of sums of one pass over the vocabulary.
        """
        raise NeedsFullLogits

    def _scaled(self, value: PerToken) -> PerToken:
        if self.scale_by_temperature_squared:
            return value * self.temperature**2
        return value

    def _unknown_mode_message(self) -> str:
        name = type(self).__name__
        valid = ", ".join(map(repr, self.conventions))
        message = f"sparse of {name} must be one of {valid}, "
        message += f"got {self.sparse!r}"
        if self.sparse == "sampled":
            return f"{message}: only ForwardKL can be estimated from draws"
        near = difflib.get_close_matches(str(self.sparse), self.conventions, n=1)
        return f"{message}; nearest: {near[0]!r}" if near else message
