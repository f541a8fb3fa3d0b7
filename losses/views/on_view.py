"""Another loss on a view of the batch, or on the worst of several."""

import dataclasses
import functools
from collections.abc import Sequence

import jax.numpy as jnp

from losses.core.checks import check_inner
from losses.core.loss import Loss
from losses.core.of_loss import OfLoss
from losses.core.outputs import TEACHER, FullOutputs, Outputs, PerToken
from losses.views.paths import check_view, logits_on, named, path_on


class _OnViews(OfLoss, abstract=True):
    """A loss inside, whose student's arrays are those of views."""

    loss: Loss

    def _needs_on(self, view: str) -> frozenset[str]:
        return frozenset(
            path if path.startswith(TEACHER) else path_on(view, path)
            for path in self.loss.needs
        )

    def _on(self, outputs: Outputs, view: str) -> PerToken:
        own = [path for path in self.loss.needs if not path.startswith(TEACHER)]
        moved = {
            path: outputs.intermediate(path_on(view, path))
            for path in own
            if path != "logits"
        }
        assert isinstance(outputs, FullOutputs)  # not tiled
        logits = logits_on(outputs, view) if "logits" in own else outputs.logits
        return self.loss(
            dataclasses.replace(
                outputs,
                logits=logits,
                intermediates={**outputs.intermediates, **moved},
            )
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnView(_OnViews):
    """`loss` of what the student computes on a view of the batch (`models.Views`).

    With a cross-entropy and a view of `models.Ascent`, adversarial training (Madry et
    al. 2017, arXiv:1706.06083, eq. 2.1). Targets, and a teacher's outputs, are those of
    the batch.

    Attributes:
      loss: reads logits; no means over the batch.
      view: its name.

    Raises:
      ValueError: `view` is no name, or `loss` cannot be inside.
    """

    loss: Loss
    view: str
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        check_view(self.view)

    @property
    def name(self) -> str:
        """As a metric."""
        return named(self.view, self.loss)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return self._needs_on(self.view)

    def __call__(self, outputs: Outputs) -> PerToken:
        return self._on(outputs, self.view)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstView(_OnViews):
    """`max_i loss(view_i)`, a token at a time.

    With a cross-entropy it trains against the worst of several attacks; as a metric
    with `ZeroOne`, `1 -` the accuracy on their union.

    Source: Tramèr and Boneh 2019 (arXiv:1904.13000), section 4.1, "max"; the first term
    of RAMP (arXiv:2402.06827).

    Attributes:
      loss: reads logits; no means over the batch.
      views: their names; "" is the batch itself.

    Raises:
      ValueError: there are fewer than two views, one is no name, or `loss` cannot be
        inside.
    """

    loss: Loss
    views: Sequence[str]
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        if len(set(self.views)) < 2:
            raise ValueError(f"views must name two views or more, got {self.views!r}")
        for view in self.views:
            if view:
                check_view(view, "views")

    @property
    def name(self) -> str:
        """As a metric."""
        return named("worst", self.loss)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - by instance
        return frozenset().union(*(self._needs_on(view) for view in self.views))

    def __call__(self, outputs: Outputs) -> PerToken:
        values = (self._on(outputs, view) for view in self.views)
        return functools.reduce(jnp.maximum, values)
