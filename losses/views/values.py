"""Errors of the numbers of series, on a view of the batch or on the batch itself."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from losses.core.checks import check_choice
from losses.core.loss import Loss
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.functional.views import value_distance
from losses.views.paths import check_view, path_on

_COUNTED = "numbers of a moment"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueDistance(Loss):
    """`Σ_c m_c |x̂_c - x_c|^p / E[Σ_c m_c]` of a moment of series (`data.Series`).

    m are the numbers that a view hides (`models.Hidden`), or those that it leaves. E is
    over the global batch, so that the mean over moments is the mean over these numbers:
    the mean absolute, or squared, error, however the batch is cut. 0 where there is
    none.

    Both together, of the view's logits, are the reconstruction and the imputation of
    SAITS (arXiv:2202.08516), eq. 11 and 12, and the local part of Glocal-IB
    (arXiv:2510.04910).

    Attributes:
      view: its name; "" for the batch, and what its data hides.
      over: `"hidden"` numbers, or `"observed"` ones.
      power: p, 1 or 2.
      path: of x̂, `"logits"`; `"drawn/logits"` of `models.Imputer`.

    Raises:
      ValueError: `view` is no name, or a field is none of its choices.
    """

    view: str = ""
    over: Literal["hidden", "observed"] = "hidden"
    power: Literal[1, 2] = 1
    path: str = "logits"
    tiled = False
    unit = "1"

    def __post_init__(self):
        if self.view:
            check_view(self.view)
        check_choice("over", self.over, ("hidden", "observed"))
        if self.power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, got {self.power}")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        paths = {path_on(self.view, self.path)}
        return frozenset(paths | ({self._observed} if self.view else set()))

    def statistics(self, outputs: Outputs) -> Mapping[str, Float[Array, "*b"]]:
        counted = self._counted(outputs)
        return {_COUNTED: jnp.sum(counted, axis=-1, dtype=jnp.float32)}

    def __call__(self, outputs: Outputs) -> PerToken:
        path, counted = path_on(self.view, self.path), self._counted(outputs)
        predicted = outputs.logits if path == "logits" else outputs.intermediate(path)
        values = value_distance(predicted, outputs.batch["values"], counted, self.power)
        mean = outputs.statistics[_COUNTED]
        return jnp.where(mean > 0.0, values / jnp.where(mean > 0.0, mean, 1.0), 0.0)

    @property
    def _observed(self) -> str:
        return path_on(self.view, "observed")

    def _counted(self, outputs: Outputs) -> Bool[Array, "*b c"]:
        """Return m.

        Raises:
          IncompatibleLoss: the rows are no series.
        """
        batch = outputs.batch
        if not {"values", "observed", "hidden"} <= batch.keys():
            raise IncompatibleLoss(
                f"ValueDistance reads series, as data.SeriesFile has them; the rows "
                f"hold {', '.join(sorted(batch))}"
            )
        if not self.view:
            return batch[self.over]
        left = outputs.intermediate(self._observed)
        return left if self.over == "observed" else batch["observed"] & ~left
