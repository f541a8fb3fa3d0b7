"""Shifts of the student's margins or features on a view."""

import dataclasses

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional.views import feature_shift, margin_shift
from losses.views.paths import check_view, logits_on, path_on


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginShift(Loss):
    """`‖d(x̃) - d(x)‖₂` of the margins `d_v = s_y - s_v` on a view x̃ and the batch x.

    Beside `CompSum(margin=ρ)`, at a weight ν of `√(classes - 1) / ρ` and more and with
    a view of `models.Ascent(objective="margins")`, the smooth adversarial comp-sum
    loss; ν is tuned in practice. The norm is not squared, and has slope 0 at 0.

    Source: Mao et al. 2023 (arXiv:2304.07288), of its smooth adversarial form.

    Attributes:
      view: its name.

    Raises:
      ValueError: it is no name.
    """

    view: str
    tiled = False
    unit = "1"

    def __post_init__(self):
        check_view(self.view)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({"logits", path_on(self.view, "logits")})

    def __call__(self, outputs: Outputs) -> PerToken:
        view = logits_on(outputs, self.view)
        return margin_shift(outputs.logits, view, outputs.batch["targets"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureShift(Loss):
    """`‖f(x̃) - f(x)‖₂` of the student's features at unit norm, 0 to 2.

    Not squared, with slope 0 at 0; both sides have a gradient, as in the authors' code,
    but for a teacher's, which `runner.ViewTeacher` shows the view too.

    Source: AdvFLYP (arXiv:2604.11576), the halves of L_feat, weight 1: `"teacher/..."`
    of the original model, and the student's own.

    Attributes:
      view: its name.
      of: path of the features, `[*b d]`: `"trunk"` is what the head reads.
      beside: path of the other ones; None is `of`, on the batch itself.

    Raises:
      ValueError: it is no name.
    """

    view: str
    of: str = "trunk"
    beside: str | None = None
    unit = "1"

    def __post_init__(self):
        check_view(self.view)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        return frozenset({self.beside or self.of, path_on(self.view, self.of)})

    def __call__(self, outputs: Outputs) -> PerToken:
        view = outputs.intermediate(path_on(self.view, self.of))
        return feature_shift(outputs.intermediate(self.beside or self.of), view)
