"""A loss that is made of another one, whose inputs or numbers it changes."""

from collections.abc import Mapping

from jaxtyping import Array, Float, Int

from losses.core.loss import Loss
from losses.core.outputs import RecordSpec


class OfLoss(Loss, abstract=True):
    """A loss that needs, sees and measures what its `loss` does.

    Attributes:
      loss: the one inside.
    """

    loss: Loss

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return self.loss.needs

    @property
    def scope(self):  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return self.loss.scope

    @property
    def unit(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return self.loss.unit

    def initial(self) -> Mapping[str, Float[Array, ""]]:
        return self.loss.initial()

    def remember(
        self,
        value: Float[Array, ""],
        memory: Mapping[str, Float[Array, ""]],
        step: Int[Array, ""],
    ) -> Mapping[str, Float[Array, ""]]:
        return self.loss.remember(value, memory, step)

    def check_records(self, stored: RecordSpec) -> None:
        self.loss.check_records(stored)


class AsItsLoss(OfLoss, abstract=True):
    """One whose term counts, by default, the tokens that its `loss` does."""

    @property
    def default_mask(self):  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return self.loss.default_mask

    @property
    def reads(self):  # pyright: ignore[reportIncompatibleVariableOverride] - as above
        return self.loss.reads
