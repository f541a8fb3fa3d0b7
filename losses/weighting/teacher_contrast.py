"""Weights of tokens by how far a contrasted teacher goes."""

import dataclasses

from losses.core.checks import check_finite
from losses.core.loss import TokenWeight
from losses.core.outputs import Outputs, PerToken

CONTRAST = "teacher/contrast"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherContrast(TokenWeight):
    """`β_0 / a_t`, a_t being the coefficient of a `runner.ContrastedTeacher`.

    With `ReverseKL`, AlignDistil: `β_t KL(q ‖ p_t)`, `p_t = softmax(z + a_t (z - z'))`
    and `β_t = β_0 / a_t`. Where the two teachers agree, a_t is its least, 1e-3, and the
    weight 100: on tokens that say least.

    Source: Zhang et al. 2025, AlignDistil (arXiv:2503.02832), β_0 = 0.1.

    Attributes:
      scale: β_0.
      most: the largest weight; None for no bound, as published.

    Raises:
      ValueError: a number is not positive and finite.
    """

    scale: float = 0.1
    most: float | None = None
    needs = frozenset({"teacher/logits", CONTRAST})

    def __post_init__(self):
        check_finite(self)
        for name in ("scale", "most"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"{name} must be positive, got {value}")

    def __call__(self, outputs: Outputs) -> PerToken:
        weight = self.scale / outputs.intermediate(CONTRAST)
        return weight if self.most is None else weight.clip(max=self.most)
