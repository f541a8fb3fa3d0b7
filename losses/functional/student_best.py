"""The reverse KL over the student's best entries."""

from jaxtyping import Array, Float

from losses.functional.log_probs import kl, log_probabilities, student_best_entries


def over_student_best(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    temperature: float = 1.0,
    *,
    best: int = 64,
) -> Float[Array, "*b"]:
    """Return `KL(q‖p)` over the student's `best` entries and the rest, nats.

    Args:
      student_logits: of q.
      teacher_logits: of p; of other widths, the ids that both have are compared.
      temperature: T of both.
      best: k, the entries that are compared one by one.
    """
    sides = log_probabilities(student_logits, teacher_logits, temperature)
    log_p, log_q = student_best_entries(*sides, best=best)
    return kl(log_q, log_p, partial=True)
