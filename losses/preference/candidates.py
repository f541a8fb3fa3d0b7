"""One candidate of each row, drawn by its loss, in the place of all."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from losses.core.checks import check_finite, check_inner
from losses.core.loss import Loss
from losses.core.of_loss import AsItsLoss
from losses.core.of_rows import PLACE
from losses.core.outputs import Outputs, PerToken
from losses.functional import preference


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneCandidate(AsItsLoss):
    """`n 1[j = J] l_j`, `J ~ softmax(-l / temperature)` over the n targets of a row.

    A row's targets are candidates of one user (`data.Interactions`), and l the values
    of a loss of each: what has a great loss among its own is likely to be noise, and is
    drawn seldom. The mean over the targets is that of the drawn ones over the rows; the
    gradient is theirs, none of the draw's. For the first steps, and at an infinite
    temperature, all are drawn alike: the loss without resampling. At temperature near 0
    the least loss is drawn; a constant in a row's losses changes nothing, and of one
    target it is the loss itself. The values are those of the pass itself: it costs no
    further one. Draws differ by step and row, and are the same however a batch is cut.

    `Resampled` is the mean of such draws over the rows of a user in the batch.

    Source: Zhang et al. 2025, personalized denoising (arXiv:2502.00348), with `BPR`,
    five candidates, temperature 0.1, after 5 epochs.

    Attributes:
      loss: sees each target by itself.
      temperature: of the softmax.
      after: steps of the optimiser that draw all alike, to begin with.

    Raises:
      ValueError: `loss` cannot be inside, temperature is not positive, or after is
        negative.
    """

    loss: Loss
    temperature: float = 0.1
    after: int = 0
    scope = "sequence"  # pyright: ignore[reportAssignmentType] - a draw is of a row
    reads_rows = True
    tiled = False

    def __post_init__(self):
        check_inner(self, self.loss)
        check_finite(self)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.after < 0:
            raise ValueError(f"after must not be negative, got {self.after}")

    def __call__(self, outputs: Outputs) -> PerToken:
        values = self.loss(outputs)
        rows = (len(values), -1)
        mask = jnp.ones(values.shape, bool) if outputs.mask is None else outputs.mask
        place = outputs.batch[PLACE].reshape(rows)[:, 0]
        of_rows = values.reshape(rows)
        scale = jnp.where(outputs.step < self.after, 0.0, 1.0 / self.temperature)
        weights = preference.one_candidate(
            of_rows,
            mask.reshape(rows),
            noise(outputs.key, outputs.step, place, of_rows.shape[1]),
            scale=scale,
        )
        return values * jax.lax.stop_gradient(weights).reshape(values.shape)


def noise(
    key: PRNGKeyArray | None,
    step: Int[Array, ""] | int,
    place: Int[Array, " b"],
    length: int,
) -> Float[Array, "b length"]:
    """Return Gumbel noise for each row by its place in the global batch.

    Args:
      key: of the step; None where there is none, and the step itself stands for it.
      step: of the optimiser.
      place: of the rows.
      length: of a row.
    """
    if key is None:
        key = jax.random.fold_in(jax.random.key(0), step)

    def of_row(row: Int[Array, ""]) -> Float[Array, " length"]:
        return jax.random.gumbel(jax.random.fold_in(key, row), (length,))

    return jax.vmap(of_row)(place)
