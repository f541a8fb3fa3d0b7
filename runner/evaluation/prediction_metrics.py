"""Sums of prediction metrics over a block of tokens, of student and teacher."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

import losses
from losses.weighting.token_weights import teacher_entropy
from models.decoding import draws

Sums = dict[str, jax.Array]
BINS = 15


def of_predictions(outputs: losses.Outputs) -> Sums:
    """Sum over the most probable outputs, by 15 equal bins of their probability.

    Args:
      outputs: Of the student; tokens outside `outputs.mask` do not count.

    Returns:
      `correct`, `[bins]`: how many are the target; `confidence`, `[bins]`: the sum of
      their probabilities.
    """
    mask = _mask(outputs)
    confidence = jnp.exp(jnp.max(outputs.logits, axis=-1) - outputs.log_normalizer())
    confidence = jnp.where(mask > 0, confidence, 0.0)  # of masked tokens it may be NaN
    correct = draws.best(outputs.logits) == outputs.batch["targets"]
    bins = jnp.minimum((confidence * BINS).astype(jnp.int32), BINS - 1)
    in_bin = jax.nn.one_hot(bins, BINS) * mask[..., None]
    return {
        "correct": jnp.tensordot(correct.astype(jnp.float32), in_bin, axes=mask.ndim),
        "confidence": jnp.tensordot(confidence, in_bin, axes=mask.ndim),
    }


def calibration_error(sums: Mapping[str, np.ndarray], count: float) -> float:
    """Return `Σ_b n_b/N |accuracy_b - confidence_b|` (Guo et al., arXiv:1706.04599)."""
    return float(np.sum(np.abs(sums["correct"] - sums["confidence"])) / count)


def of_student(outputs: losses.Outputs) -> Sums:
    """Sum `student_entropy`: `-Σ_v q_v log q_v`, nats."""
    log_q = outputs.logits - outputs.log_normalizer()[..., None]
    finite = jnp.where(log_q == -jnp.inf, 0.0, log_q)
    return {"student_entropy": _sum(-jnp.sum(jnp.exp(log_q) * finite, -1), outputs)}


def of_both(outputs: losses.Outputs, *, best: int) -> Sums:
    """Sum metrics of the student against its teacher, at temperature 1.

    Args:
      outputs: Of student and teacher.
      best: How many of the teacher's entries `mass_on_best` counts.

    Returns:
      `kl`: `KL(p‖q)`, nats; over stored entries with one for the rest, over draws an
      estimate. `teacher_entropy`: nats. `agreement`: tokens whose most probable entry
      is the same. `mass_on_best`: the student's probability of the teacher's `best`
      most probable entries (of those that are stored). Draws have neither of the last
      two.
    """
    teacher = outputs.teacher
    assert teacher is not None
    values = {"teacher_entropy": teacher_entropy(teacher)}
    if teacher.logits is not None:
        ids = _best(teacher, outputs.num_outputs, best)
        log_q = outputs.logits_at(ids) - outputs.log_normalizer()[..., None]
        values["mass_on_best"] = jnp.sum(jnp.exp(log_q), axis=-1)
    sums = {name: _sum(value, outputs) for name, value in values.items()}
    return of_pair(outputs) | sums


def of_pair(outputs: losses.Outputs) -> Sums:
    """Sum `kl` and, but for draws, `agreement`; see `of_both`."""
    teacher = outputs.teacher
    assert teacher is not None
    drawn = teacher.logits is None
    over = "sampled" if drawn else "tail_bucket"
    values = {"kl": losses.ForwardKL(sparse=over)(outputs)}
    if not drawn:
        first = _best(teacher, outputs.num_outputs, 1)[..., 0]
        same = draws.best(outputs.logits) == first
        values["agreement"] = same.astype(jnp.float32)
    return {name: _sum(value, outputs) for name, value in values.items()}


def _best(teacher: losses.TeacherOutputs, size: int, count: int) -> jax.Array:
    assert teacher.logits is not None
    if teacher.indices is not None:
        return teacher.indices[..., :count]
    shared = teacher.logits[..., :size]
    return jax.lax.top_k(shared, min(count, shared.shape[-1]))[1]


def _mask(outputs: losses.Outputs) -> jax.Array:
    assert outputs.mask is not None
    return outputs.mask.astype(jnp.float32)


def _sum(values: jax.Array, outputs: losses.Outputs) -> jax.Array:
    assert outputs.mask is not None
    return jnp.sum(jnp.where(outputs.mask, values, 0.0))
