"""Divergence of a model's latents from their prior."""

import dataclasses

from losses.core.loss import Loss
from losses.core.outputs import Outputs, PerToken
from losses.functional.views import prior_kl
from losses.views.paths import check_view, path_on


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorKL(Loss):
    """`KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ_d (μ² + σ² - log σ² - 1)`, nats.

    Of the latents of `models.Imputer`: a bound on what they know of the input.

    Source: Kingma and Welling 2013 (arXiv:1312.6114), appendix B; the prior of
    Glocal-IB (arXiv:2510.04910), weight 1e-6 there.

    Attributes:
      view: its name; "" for the batch.

    Raises:
      ValueError: it is no name.
    """

    view: str = ""

    def __post_init__(self):
        if self.view:
            check_view(self.view)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - a field decides
        return frozenset({self._path("mean"), self._path("log_variance")})

    def __call__(self, outputs: Outputs) -> PerToken:
        mean, log_variance = (
            outputs.intermediate(self._path(name)) for name in ("mean", "log_variance")
        )
        return prior_kl(mean, log_variance)

    def _path(self, name: str) -> str:
        return path_on(self.view, f"latent/{name}")
