"""Alignment of teacher and student over the same entries of the vocabulary.

A divergence compares two lists of log-probabilities. With whole logits the list is the
vocabulary; with a teacher's k best entries it is these k, and the rest of the
vocabulary follows a convention that an experiment names.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from losses.core.outputs import Outputs, TeacherOutputs
from losses.functional.log_probs import (
    FLOOR,
    floored,
    normalize_scores,
    shared_scores,
)

SparseMode = Literal[
    "tail_bucket",
    "renormalize_teacher",
    "renormalize_both",
    "truncate",
    "residual_to_target",
    "sampled",
]
"""Convention for a divergence over stored entries. Whole logits need none.

* `tail_bucket`: the k entries and one more, which has the rest of the mass on either
  side. Still a divergence (0 only if all k + 1 agree). Divergences that obey the
  data-processing inequality (every f-divergence, and Rényi's) are never above the whole
  one, and non-decreasing in k.
* `renormalize_teacher`: p over the k sums to 1, q is as it is.
* `renormalize_both`: both sum to 1 over the k; other entries are not learnt.
* `truncate`: the k terms of the whole sum; may be negative.
* `residual_to_target`: the teacher's remaining mass goes to the target token, which is
  one of the k or an entry of its own; q is as it is.
* `sampled`: draws from p, see `ForwardKL`.

Top-k renormalised or truncated is a biased teacher (Anshumann et al. 2025,
arXiv:2503.16870), and so is a residual given to the target.
"""

REST_FLOOR = 1e-5
"""The mass of a rest is at least this, and has no gradient below: with logits of 30, a
few float32 steps in the log-normaliser move `1 - Σ_k q_k` by 5e-6. With k = V both
rests are this, and compare as equal."""


class Entries(NamedTuple):
    """The log-probabilities to compare, nats, finite (see `log_probs.FLOOR`).

    Attributes:
      log_p: the teacher's, `[*b n]`.
      log_q: the student's, `[*b n]`.
      rest: whether the last entry stands for all that is not among the others.
    """

    log_p: jax.Array
    log_q: jax.Array
    rest: bool = False


def align(outputs: Outputs, *, temperature: float, sparse: SparseMode) -> Entries:
    """Return `log softmax(t / T)` and `log softmax(s / T)` over the same entries.

    Where both logits are whole but differ in width (a padded vocabulary), only the
    first `min(V_student, V_teacher)` ids are compared, and both are renormalised there.
    Over k entries the student costs its log-normaliser and a gather of k logits; an id
    beyond its vocabulary gives NaN.

    Args:
      outputs: of student and teacher.
      temperature: T.
      sparse: the convention for stored entries.

    Returns:
      Log-probabilities of both sides, over the vocabulary or over stored entries.

    Raises:
      ValueError: there is no teacher, it gives draws or wants another convention, or
        its log-normaliser was not stored for this temperature.
    """
    teacher = teacher_of(outputs)
    if teacher.logits is None:
        raise ValueError(f"the teacher gives draws; {sparse!r} wants its logits")
    if teacher.indices is None:
        return _whole(outputs, teacher.logits, temperature)
    logits = teacher.logits.astype(jnp.float32) / temperature
    log_p = floored(logits - teacher.log_normalizer(temperature)[..., None])
    log_q = student_log_probabilities(outputs, teacher.indices, temperature)
    match sparse:
        case "tail_bucket":
            return Entries(_with_rest(log_p), _with_rest(log_q), rest=True)
        case "renormalize_teacher":
            return Entries(_renormalized(log_p), log_q)
        case "renormalize_both":
            return Entries(_renormalized(log_p), _renormalized(log_q))
        case "truncate":
            return Entries(log_p, log_q)
        case "residual_to_target":
            targets = outputs.batch["targets"][..., None]
            # Masked tokens may have any target; out of range it would read NaN.
            in_range = jnp.clip(targets, 0, outputs.num_outputs - 1)
            log_q_target = student_log_probabilities(outputs, in_range, temperature)
            return _residual_to_target(
                log_p, log_q, log_q_target, is_target=teacher.indices == targets
            )
        case "sampled":
            raise ValueError(
                "the teacher gives its best entries; 'sampled' wants draws"
            )


def teacher_of(outputs: Outputs) -> TeacherOutputs:
    """Return `outputs.teacher`.

    Raises:
      ValueError: there is none.
    """
    if outputs.teacher is None:
        raise ValueError("this loss compares with a teacher, and there is none")
    return outputs.teacher


def student_log_probabilities(
    outputs: Outputs, indices: jax.Array, temperature: float
) -> jax.Array:
    """Return `log q_i` at `indices` `[*b k]`, nats, without `[*b v]` in between."""
    at_indices = outputs.logits_at(indices)
    log_normalizer = outputs.log_normalizer(temperature)
    return floored(at_indices / temperature - log_normalizer[..., None])


def _whole(outputs: Outputs, teacher_logits: jax.Array, temperature: float) -> Entries:
    t, s = shared_scores(outputs.logits, teacher_logits, temperature)
    # All terms share the log-normaliser of a whole row; a cut one has its own.
    if s.shape[-1] == outputs.logits.shape[-1]:
        log_z = outputs.log_normalizer(temperature)
    else:
        log_z = jax.nn.logsumexp(s, axis=-1)
    return Entries(*normalize_scores(t, s, log_z))


def _renormalized(logits: jax.Array) -> jax.Array:
    return logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def _rest(log_probabilities: jax.Array) -> jax.Array:
    """Return `1 - Σ_k exp l_k`, at least `REST_FLOOR`, `[*b 1]`."""
    mass = jnp.sum(jnp.exp(log_probabilities), axis=-1, keepdims=True)
    return jnp.maximum(1.0 - mass, REST_FLOOR)


def _with_rest(log_probabilities: jax.Array) -> jax.Array:
    log_rest = jnp.log(_rest(log_probabilities))
    return jnp.concatenate([log_probabilities, log_rest], axis=-1)


def _residual_to_target(
    log_p: jax.Array, log_q: jax.Array, log_q_target: jax.Array, *, is_target: jax.Array
) -> Entries:
    """Return the entries with the residual given to the target.

    There is always one entry more; where the target is among the k it is impossible on
    both sides, and so compares as equal.

    Args:
      log_p: the teacher's, `[*b k]`.
      log_q: the student's, `[*b k]`.
      log_q_target: the student's of the target, `[*b 1]`.
      is_target: bool `[*b k]`.
    """
    rest = _rest(log_p)
    log_rest = jnp.log(rest)
    added = jnp.where(is_target & (rest > REST_FLOOR), log_rest, FLOOR)
    merged = jnp.where(is_target, jnp.logaddexp(log_p, added), log_p)
    among = jnp.any(is_target, axis=-1, keepdims=True)
    return Entries(
        jnp.concatenate([merged, jnp.where(among, FLOOR, log_rest)], axis=-1),
        jnp.concatenate([log_q, jnp.where(among, FLOOR, log_q_target)], axis=-1),
    )
