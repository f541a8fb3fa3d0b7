"""Agreement of the best entries of two distributions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from losses.functional.log_probs import log_probabilities


def agreement(
    student_logits: Float[Array, "*b v"],
    teacher_logits: Float[Array, "*b w"],
    *,
    measure: str = "overlap",
    best: int = 1,
) -> Float[Array, "*b"]:
    """Return the share of `best` entries in common, or one side's mass on the other's.

    Args:
      student_logits: of q.
      teacher_logits: of p; of other widths, the ids that both have are compared.
      measure: "overlap", "student_mass" or "teacher_mass", see `losses.Agreement`.
      best: entries of each side; all of them where there are fewer.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits)
    best = min(best, log_p.shape[-1])
    of_teacher, of_student = (jax.lax.top_k(x, best)[1] for x in (log_p, log_q))
    match measure:
        case "student_mass":
            log_mass = jnp.take_along_axis(log_q, of_teacher, axis=-1)
        case "teacher_mass":
            log_mass = jnp.take_along_axis(log_p, of_student, axis=-1)
        case _:
            common = of_teacher[..., :, None] == of_student[..., None, :]
            return jnp.sum(common, axis=(-2, -1), dtype=jnp.float32) / best
    return jnp.sum(jnp.exp(log_mass), axis=-1)
