"""Distillation of logits that treats one entry of the vocabulary, the target, apart.

`p` and `q` are as in `losses.functional.divergences`; targets are labels, or the
teacher's most probable entries.
"""

from jaxtyping import Array, Float, Int

from losses.functional import log_probs_targeted
from losses.functional.log_probs import log_probabilities
from losses.functional.vocabulary import is_target

Student = Float[Array, "*b v"]
Teacher = Float[Array, "*b w"]
Targets = Int[Array, "*b"]
PerToken = Float[Array, "*b"]


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
