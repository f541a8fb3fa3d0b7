"""Alignment of a view's features with those of the batch."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from losses.core.affine import Affine
from losses.core.loss import Loss
from losses.core.of_rows import Feature, OfRows, Rows, There
from losses.core.outputs import IncompatibleLoss, Outputs, PerToken
from losses.functional.features import own_head_logits
from losses.functional.in_batch import info_nce
from losses.functional.views import step_contrast, unit, view_alignment
from losses.views.paths import check_view, path_on


class _Aligned(Loss, nnx.Module, abstract=True):
    """`g(z')` of a view beside `sg(z)` of the batch, g being `W relu(U z' + a) + b`."""

    def __init__(self, *, view: str, dim: int, of: str = "trunk", rngs: nnx.Rngs):
        check_view(view)
        if dim < 1:
            raise ValueError(f"dim must be positive, got {dim}")
        self.view, self.dim, self.of = view, dim, of
        self.first = Affine(dim, dim, axes=("embed", None), rngs=rngs)
        self.last = Affine(dim, dim, axes=(None, "embed"), rngs=rngs)

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride] - fields decide
        return frozenset({self.of, path_on(self.view, self.of)})

    def both(self, outputs: Outputs) -> tuple[Float[Array, "*b d"], ...]:
        """Return `g(z')` and `sg(z)`.

        Raises:
          IncompatibleLoss: they are not `dim` wide.
        """
        z = outputs.intermediate(self.of)
        if z.shape[-1] != self.dim:
            raise IncompatibleLoss(
                f"{type(self).__name__}(dim={self.dim}) reads {self.of} of width "
                f"{z.shape[-1]}"
            )
        view = outputs.intermediate(path_on(self.view, self.of))
        projected = own_head_logits(view, self.last.arrays(), self.first.arrays())
        return projected, jax.lax.stop_gradient(z)


class ViewAlignment(_Aligned):
    """`1 - cos(g(z'), sg(z))`, of a view's features z' and the batch's z.

    g is `W relu(U z' + a) + b`, trained and checkpointed with the student and no part
    of it. The batch's side has no gradient.

    Args:
      view: its name; one of `models.Hidden`, say.
      dim: the width of z.
      of: path of the features, `[*b d]`: `"trunk"` is what the head reads.
      rngs: of the initial values.

    Source: Glocal-IB (arXiv:2510.04910), L_glo in its cosine form, along the features;
    the released code takes it along time. Its weight there is 0.5.

    Raises:
      ValueError: `view` is no name, or the width below 1.
    """

    unit = "1"

    def __call__(self, outputs: Outputs) -> PerToken:
        return view_alignment(*self.both(outputs))


class ViewContrast(_Aligned, OfRows):
    """`-mean_i log softmax_j(cos(g(z'_i), sg(z_j)))_i`, nats, over the global batch.

    Of rows: each is the mean of its tokens' features. `log B` of B rows that are all
    alike. Rows of all devices and microbatches are compared.

    Args:
      view: as of `ViewAlignment`.
      dim: likewise.
      of: likewise.
      rngs: likewise.

    Source: Glocal-IB (arXiv:2510.04910), L_glo in its contrastive form, without a
    temperature, over the batch's side; the released code normalises over the view's.

    Raises:
      ValueError: as of `ViewAlignment`.
    """

    unit = "nats"

    def features(self, outputs: Outputs) -> Mapping[str, Feature]:
        weights = jnp.ones(outputs.batch["targets"].shape, jnp.float32)
        view, clean = self.both(outputs)
        return {"view": Feature(view, weights), "batch": Feature(clean, weights)}

    def of_rows(self, rows: Mapping[str, Rows], there: There) -> Float[Array, ""]:
        queries, keys = unit(rows["view"]), unit(rows["batch"])
        return info_nce(queries, keys, there, temperature=1.0)


class StepContrast(_Aligned):
    """`-log softmax_i(cos(g(z'_i), sg(z_j)))_j`, nats, over the moments i of a row.

    `log T` of T moments that are all alike. Between rows it is `ViewContrast`.

    Args:
      view: as of `ViewAlignment`.
      dim: likewise.
      of: likewise; `"latent/mean"` of `models.Imputer`.
      rngs: likewise.

    Source: Glocal-IB (arXiv:2510.04910), L_glo in its contrastive form, as the released
    code has it.

    Raises:
      ValueError: as of `ViewAlignment`.
    """

    scope = "sequence"
    unit = "nats"

    def __call__(self, outputs: Outputs) -> PerToken:
        view, clean = self.both(outputs)
        tokens = view.shape[:-1]
        mask = jnp.ones(tokens, bool) if outputs.mask is None else outputs.mask
        rows = (tokens[0], -1)
        values = step_contrast(
            view.reshape((*rows, self.dim)),
            clean.reshape((*rows, self.dim)),
            mask.reshape(rows),
        )
        return values.reshape(tokens)
