"""The reference that a sequence's log-probability is compared with."""

import jax
import jax.numpy as jnp

from losses.core.columns import row_column
from losses.core.outputs import (
    IncompatibleLoss,
    NeedsFullLogits,
    Outputs,
    PerToken,
    RecordSpec,
)
from losses.core.tiles import Distribution, Tile
from losses.core.vocab_sums import TiledOutputs
from losses.functional.vocabulary import is_target
from losses.preference.sequences import Over, Pair, of_sequences

Columns = tuple[str, str]
"""Names of the columns that hold the sums of log-probabilities of either sequence."""


def of_reference(outputs: Outputs, columns: Columns | None, over: Over) -> Pair:
    """Return the reference's sum or mean of log-probabilities of either sequence.

    Gradients are stopped.

    Args:
      outputs: with a teacher, where there are no columns.
      columns: sums that were computed before; None for the teacher.
      over: as in `of_sequences`.

    Raises:
      IncompatibleLoss: there is neither.
    """
    if columns is None:
        return of_sequences(teacher_log_probabilities(outputs), outputs, over)
    sums = Pair(*(row_column(outputs.batch, name) for name in columns))
    if over == "sum":
        return sums
    ones = jnp.ones(outputs.batch["targets"].shape, jnp.float32)
    counts = of_sequences(ones, outputs, "sum")
    return Pair(*(x / jnp.maximum(n, 1.0) for x, n in zip(sums, counts, strict=True)))


def teacher_log_probabilities(outputs: Outputs) -> PerToken:
    """Return the teacher's `log p_y`, nats, of the targets; gradients are stopped.

    Where the vocabularies are padded to different widths, it is normalised over the
    ids that both have.

    Raises:
      IncompatibleLoss: there is no teacher, or it gives stored entries.
      NeedsFullLogits: its logits are not tiled as the student's are.
    """
    teacher = outputs.teacher
    if teacher is None:
        raise IncompatibleLoss(
            "a preference loss compares with a reference, and there is none: give a "
            "teacher, or the columns of its log-probabilities, reference=(...)"
        )
    if isinstance(outputs, TiledOutputs):
        return jax.lax.stop_gradient(_of_tiles(outputs))
    if teacher.indices is not None or teacher.logits is None:
        raise IncompatibleLoss(
            "a preference loss wants the reference's probability of every target, and "
            "the teacher gives stored entries: give a model, records of mode Full, or "
            "columns, reference=(...)"
        )
    width = min(outputs.num_outputs, teacher.logits.shape[-1])
    log_p = jax.nn.log_softmax(teacher.logits[..., :width])
    hit = is_target(log_p, outputs.batch["targets"])
    values = jnp.sum(jnp.where(hit, log_p, 0.0), axis=-1)
    values = jnp.where(outputs.targets_outside(width), jnp.nan, values)
    return jax.lax.stop_gradient(values)


def check_stored(name: str, stored: RecordSpec) -> None:
    """Refuse records that do not hold the probability of every target.

    Raises:
      ValueError: with what to use in their place.
    """
    if stored.mode != "full":
        raise ValueError(
            f"{name} wants the reference's probability of every target, and the "
            f"records hold some entries; reference=(...) takes the columns of "
            f"its log-probabilities (data.Columns)"
        )


def _of_tiles(outputs: TiledOutputs) -> PerToken:
    if outputs.teacher_width is None:
        raise NeedsFullLogits
    width = min(outputs.vocabulary, outputs.teacher_width)
    targets = outputs.batch["targets"][..., None]

    def at_target(tile: Tile) -> PerToken:
        assert tile.teacher is not None  # it has a width
        hit = jnp.broadcast_to(tile.entries, tile.teacher.shape) == targets
        return jnp.sum(jnp.where(hit, tile.teacher, 0.0), axis=-1)

    normalizer = outputs.normalizer_of(Distribution("teacher", 1.0, width))
    values = outputs.total(at_target) - normalizer
    return jnp.where(outputs.targets_outside(width), jnp.nan, values)
