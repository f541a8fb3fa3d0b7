"""Alignment of teacher and student over the same entries of the vocabulary.

A divergence compares two lists of log-probabilities. With whole logits the list is the
vocabulary; with a teacher's k best entries it is these k, and the rest of the
vocabulary follows a convention that an experiment names.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from losses.core.outputs import Outputs, PerToken, TeacherOutputs
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
* `renormalize_teacher`: p over the k sums to 1 and is 0 outside of them; q is as it is,
  its mass outside of the k one more entry.
* `renormalize_both`: both sum to 1 over the k; other entries are not learnt.
* `truncate`: the k terms of the whole sum, in the form whose every term is at least 0
  (`a log(a/b) - a + b` for a KL). So the sum is never above the whole one, and it is
  0 only where q = p at all of the k; it sees the student's mass outside of them by
  what the k are short of alone.
* `residual_to_target`: the teacher's remaining mass goes to the target token, which is
  one of the k or an entry of its own; q is as it is, its mass elsewhere one more entry.
* `sampled`: draws from p, see `ForwardKL`.

Each divergence is least, and its gradient 0, where q is the teacher that the convention
names. Under `renormalize_teacher` and `residual_to_target` that is a biased one, with
no mass outside of its entries (Anshumann et al. 2025, arXiv:2503.16870); a divergence
that is infinite there, as every reverse KL is, refuses them.
"""

OVER_ENTRIES_ALONE = ("renormalize_both", "renormalize_teacher")
"""The conventions that do without the teacher's mass outside of its entries."""

REST_FLOOR = 2.0**-23
"""The least mass of a rest that a log-normaliser tells: a float32 step at 1. One that
is stored in steps of 2⁻²⁰ nats is coarser still."""


class Entries(NamedTuple):
    """The log-probabilities to compare, nats, finite (see `log_probs.FLOOR`).

    Attributes:
      log_p: the teacher's, `[*b n]`.
      log_q: the student's, `[*b n]`.
      rest: whether the last entry stands for all that is not among the others.
      partial: whether entries are left out, so that neither side need sum to 1.
    """

    log_p: Float[Array, "*b n"]
    log_q: Float[Array, "*b n"]
    rest: bool = False
    partial: bool = False


def align(
    outputs: Outputs,
    *,
    temperature: float,
    sparse: SparseMode,
    student_rest: bool = True,
) -> Entries:
    """Return `log softmax(t / T)` and `log softmax(s / T)` over the same entries.

    Where both logits are whole but differ in width (a padded vocabulary), only the
    first `min(V_student, V_teacher)` ids are compared, and both are renormalised there.
    Over k entries the student costs a gather of k logits and its log-normaliser, and
    for a rest a second one, without the k; an id beyond its vocabulary gives NaN. There
    is no rest where the k are its whole vocabulary.

    Args:
      outputs: of student and teacher.
      temperature: T.
      sparse: the convention for stored entries.
      student_rest: whether an entry that the student alone has is wanted.

    Returns:
      Log-probabilities of both sides, over the vocabulary or over stored entries.

    Raises:
      ValueError: there is no teacher, it gives draws or wants another convention, or
        its log-normaliser was not stored for this temperature.
    """
    # Whole rows need no convention.
    teacher = teacher_of(outputs)
    if teacher.logits is None:
        raise ValueError(f"the teacher gives draws; {sparse!r} wants its logits")
    if teacher.indices is None:
        return _whole(outputs, teacher.logits, temperature)

    # The entries of both sides; the teacher's are normalised with its rest.
    ids = teacher.indices
    logits = teacher.logits.astype(jnp.float32)
    if not teacher.log_normalizers and sparse in OVER_ENTRIES_ALONE:
        nothing = jnp.full_like(logits[..., :1], -jnp.inf)
        stored = jnp.concatenate([_renormalized(logits / temperature), nothing], -1)
    else:
        stored = _with_rest(teacher, logits, temperature)
    all_stored = ids.shape[-1] >= outputs.num_outputs
    if all_stored:
        stored = _renormalized(stored.at[..., -1].set(-jnp.inf))
    stored = floored(stored)
    log_p, log_q = (
        stored[..., :-1],
        student_log_probabilities(outputs, ids, temperature),
    )

    # What stands for all that is not among them.
    match sparse:
        case "renormalize_both":
            return Entries(_renormalized(log_p), _renormalized(log_q))
        case "truncate":
            return Entries(log_p, log_q, partial=True)
        case "sampled":
            raise ValueError(
                "the teacher gives its best entries; 'sampled' wants draws"
            )
        case "tail_bucket":
            entries, others = Entries(stored, log_q), ids
        case "renormalize_teacher":
            others = ids if student_rest else None
            entries = Entries(_renormalized(log_p), log_q)
        case "residual_to_target":
            target = _target(outputs)
            others = jnp.concatenate([ids, target], axis=-1) if student_rest else None
            log_q_target = student_log_probabilities(outputs, target, temperature)
            outside = outputs.targets_outside(outputs.num_outputs)[..., None]
            log_q_target = jnp.where(outside, jnp.nan, log_q_target)
            entries = _residual_to_target(stored, log_q, log_q_target, ids == target)
    if all_stored:
        return Entries(entries.log_p[..., : ids.shape[-1]], log_q)
    return entries if others is None else _closed(outputs, entries, others, temperature)


def teacher_of(outputs: Outputs) -> TeacherOutputs:
    """Return `outputs.teacher`.

    Raises:
      ValueError: there is none.
    """
    if outputs.teacher is None:
        raise ValueError("this loss compares with a teacher, and there is none")
    return outputs.teacher


def student_log_probabilities(
    outputs: Outputs, indices: Int[Array, "*b k"], temperature: float
) -> Float[Array, "*b k"]:
    """Return `log q_i` at `indices` `[*b k]`, nats, without `[*b v]` in between."""
    at_indices = outputs.logits_at(indices)
    log_normalizer = outputs.log_normalizer(temperature)
    return floored(at_indices / temperature - log_normalizer[..., None])


def _whole(
    outputs: Outputs, teacher_logits: Float[Array, "*b w"], temperature: float
) -> Entries:
    t, s = shared_scores(outputs.logits, teacher_logits, temperature)
    # All terms share the log-normaliser of a whole row; a cut one has its own.
    if s.shape[-1] == outputs.logits.shape[-1]:
        log_z = outputs.log_normalizer(temperature)
    else:
        log_z = jax.nn.logsumexp(s, axis=-1)
    return Entries(*normalize_scores(t, s, log_z))


def _with_rest(
    teacher: TeacherOutputs, logits: Float[Array, "*b k"], temperature: float
) -> Float[Array, "*b k+1"]:
    """Return log-probabilities of the k entries and of the rest, nats, `[*b k+1]`."""
    scores = logits / temperature
    if temperature in teacher.log_rests:
        log_rest = teacher.log_rests[temperature]
    else:
        log_rest = _rest_of_normalizer(scores, teacher.log_normalizer(temperature))
    return _renormalized(jnp.concatenate([scores, log_rest[..., None]], axis=-1))


def _rest_of_normalizer(
    scores: Float[Array, "*b k"], log_normalizer: PerToken
) -> PerToken:
    """Return `log (Z - Σ_k exp x_k)`, nats, `[*b]`; at least `REST_FLOOR` of Z.

    Relative to the largest, so that `Z - 1` and the sum of the others are subtracted.
    """
    place = jax.lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
    is_best = place == jnp.argmax(scores, axis=-1, keepdims=True).astype(jnp.int32)
    best = jnp.max(scores, axis=-1)
    relative = log_normalizer - best
    others = jnp.where(is_best, 0.0, jnp.exp(scores - best[..., None]))
    rest = jnp.expm1(relative) - jnp.sum(others, axis=-1)
    return jnp.log(jnp.maximum(rest, REST_FLOOR * jnp.exp(relative))) + best


def _target(outputs: Outputs) -> Int[Array, "*b 1"]:
    """Return the targets, `[*b 1]`; those outside of the vocabulary are cut."""
    targets = outputs.batch["targets"][..., None]
    return jnp.clip(targets, 0, outputs.num_outputs - 1)


def _closed(
    outputs: Outputs, entries: Entries, ids: Int[Array, "*b k"], temperature: float
) -> Entries:
    """Return the entries with the student's mass outside of `ids` for the last one.

    The teacher has an entry for it already, or has nothing there.
    """
    log_rest = outputs.log_normalizer_outside(ids, temperature)
    log_rest = floored(log_rest - outputs.log_normalizer(temperature))[..., None]
    log_p, log_q = entries.log_p, entries.log_q
    if log_p.shape == log_q.shape:
        log_p = jnp.concatenate([log_p, jnp.full_like(log_rest, FLOOR)], axis=-1)
    # Both sum to 1 but for rounding, which `partial` takes out of the first order.
    log_q = jnp.concatenate([log_q, log_rest], axis=-1)
    return Entries(log_p, log_q, rest=True, partial=True)


def _renormalized(logits: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    return logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def _residual_to_target(
    stored: Float[Array, "*b k+1"],
    log_q: Float[Array, "*b k"],
    log_q_target: Float[Array, "*b 1"],
    is_target: Bool[Array, "*b k"],
) -> Entries:
    """Return the entries and the target, which has the rest of the teacher's mass.

    There is always one entry more; where the target is among the k it is impossible on
    both sides, and so compares as equal.

    Args:
      stored: log-probabilities of the teacher's k entries and of its rest, `[*b k+1]`.
      log_q: the student's, `[*b k]`.
      log_q_target: the student's of the target, `[*b 1]`.
      is_target: bool `[*b k]`.
    """
    log_p, log_rest = stored[..., :-1], stored[..., -1:]
    added = jnp.where(is_target, log_rest, FLOOR)
    merged = jnp.where(is_target, jnp.logaddexp(log_p, added), log_p)
    among = jnp.any(is_target, axis=-1, keepdims=True)
    apart = jnp.where(among, FLOOR, log_rest)
    log_q_apart = jnp.where(among, FLOOR, log_q_target)
    return Entries(
        jnp.concatenate([merged, apart], axis=-1),
        jnp.concatenate([log_q, log_q_apart], axis=-1),
    )
