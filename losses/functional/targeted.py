"""Distillation of logits that treats one entry of the vocabulary, the target, apart.

`p` and `q` are as in `losses.functional.divergences`; targets are labels, or the
teacher's most probable entries.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses.functional import log_probs_targeted
from losses.functional.log_probs import FLOOR, log_probabilities
from losses.functional.vocabulary import is_target, target_logits

Student = Float[Array, "*b v"]
Teacher = Float[Array, "*b w"]
Targets = Int[Array, "*b"]
PerToken = Float[Array, "*b"]

_TINY = 1e-6


def decoupled_kd(
    student_logits: Student,
    teacher_logits: Teacher,
    targets: Targets,
    temperature: float = 1.0,
    *,
    target_weight: float = 1.0,
    non_target_weight: float = 1.0,
) -> PerToken:
    """Return `α KL(b_p‖b_q) + β KL(p̂‖q̂)`, nats, y being the target.

    `b = (p_y, 1 - p_y)` and `p̂_i = p_i / (1 - p_y)` over the entries other than y.

    Source: Zhao et al. 2022 (arXiv:2203.08679), section 3.

    Args:
      student_logits: s.
      teacher_logits: t.
      targets: y; labels, or `argmax(teacher_logits)` for `target="teacher"`.
      temperature: T.
      target_weight: α.
      non_target_weight: β.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs_targeted.decoupled_kd(
        log_p,
        log_q,
        is_target(log_p, targets),
        target_weight=target_weight,
        non_target_weight=non_target_weight,
    )


def normalized_kd(
    student_logits: Student,
    teacher_logits: Teacher,
    targets: Targets,
    temperature: float = 1.0,
    *,
    non_target_weight: float = 1.0,
) -> PerToken:
    """Return `-p_y log q_y - γ Σ_{i≠y} p̂_i log q̂_i`, nats, the first part at T = 1.

    Source: Yang et al. 2023 (arXiv:2303.13005), which has γ T² in place of γ.

    Args:
      student_logits: s.
      teacher_logits: t.
      targets: y, as in `decoupled_kd`.
      temperature: T, of the second part.
      non_target_weight: γ.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits)
    at_target = is_target(log_p, targets)
    of_target = log_probs_targeted.target_cross_entropy(log_p, log_q, at_target)
    hot_p, hot_q = log_probabilities(student_logits, teacher_logits, temperature)
    of_others = log_probs_targeted.non_target_cross_entropy(hot_p, hot_q, at_target)
    return of_target + non_target_weight * of_others


def plackett_luce(
    student_logits: Student,
    teacher_logits: Teacher,
    targets: Targets,
    temperature: float = 1.0,
) -> PerToken:
    """Return `Σ_k p_{π_k} (log Σ_{l≥k} exp s_{π_l} - s_{π_k})`, nats.

    π is the target, then the other entries by descending teacher logit; the student has
    no temperature.

    Source: PLD (arXiv:2506.12542).

    Args:
      student_logits: s.
      teacher_logits: t.
      targets: the first of the ranking, as in `decoupled_kd`.
      temperature: T, of the teacher.
    """
    log_p, _ = log_probabilities(student_logits, teacher_logits, temperature)
    _, log_q = log_probabilities(student_logits, teacher_logits)
    return log_probs_targeted.plackett_luce(log_p, log_q, is_target(log_p, targets))


def uskd(
    student_logits: Student,
    weak_logits: Student,
    targets: Targets,
    mean_square: Float[Array, ""],
    *,
    weights: tuple[float, float, float] = (1.0, 0.1, 0.005),
    ranked_by: str = "probabilities",
) -> PerToken:
    """Return `-α p_y log q_y - β Σ_{i≠y} z_i log q̂_i - μ Σ_i l_i log w_i`, nats.

    Source: Yang et al. 2023 (arXiv:2303.13005), its USKD.

    Args:
      student_logits: s.
      weak_logits: of the weak head.
      targets: y; one beyond the vocabulary gives NaN.
      mean_square: `E[q²_y]` over the batch.
      weights: α, β, μ.
      ranked_by: what of the student ranks the others, as in `USKD`.
    """
    logits, weak_logits = (x.astype(jnp.float32) for x in (student_logits, weak_logits))
    at_target = is_target(logits, targets)
    log_q, log_w = jax.nn.log_softmax(logits), jax.nn.log_softmax(weak_logits)
    log_q_y = target_logits(log_q, targets)
    target = jax.lax.stop_gradient(jnp.exp(2.0 * log_q_y) + 1.0 - mean_square)

    # Soft labels of the others: Zipf's law over their ranks.
    scores = jnp.exp(log_q) if ranked_by == "probabilities" else log_q
    rank = _ranks(_apart(jnp.exp(log_w), at_target) + _apart(scores, at_target))
    law = jnp.where(at_target, 0.0, 1.0 / (1.0 + rank))
    soft = law / jnp.maximum(jnp.sum(law, axis=-1, keepdims=True), _TINY)
    others = jax.nn.log_softmax(jnp.where(at_target, FLOOR, logits))
    of_others = -jnp.sum(soft * jnp.where(at_target, 0.0, others), axis=-1)

    smooth = jnp.where(at_target, 0.9, 0.0) + 0.1 / logits.shape[-1]
    of_weak = -jnp.sum(smooth * jnp.maximum(log_w, FLOOR), axis=-1)
    alpha, beta, mu = weights
    return -alpha * target * log_q_y + beta * of_others + mu * of_weak


def _apart(scores: Student, at_target: Student) -> Student:
    """Return `x_i / (1 - x_y)`."""
    of_target = jnp.sum(jnp.where(at_target, scores, 0.0), axis=-1, keepdims=True)
    return scores / (1.0 - of_target + _TINY)


def _ranks(scores: Student) -> Float[Array, "*b v"]:
    """Return the place of each entry in descending order, from 0."""
    order = jnp.argsort(-jax.lax.stop_gradient(scores), axis=-1)
    return jnp.argsort(order, axis=-1).astype(jnp.float32)
