"""Agreement of two distributions: of their best entries, and of draft and target."""

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


def acceptance(
    draft_logits: Float[Array, "*b v"], logits: Float[Array, "*b w"]
) -> Float[Array, "*b"]:
    """Return `Σ_v min(d_v, p_v)`, in [0, 1], of two softmaxes over the shared entries.

    Source: Leviathan et al. 2022 (arXiv:2211.17192), corollary 3.6.

    Args:
      draft_logits: of d.
      logits: of p.
    """
    size = min(draft_logits.shape[-1], logits.shape[-1])
    draft, target = (
        jax.nn.softmax(x.astype(jnp.float32), axis=-1)[..., :size]
        for x in (draft_logits, logits)
    )
    return jnp.sum(jnp.minimum(draft, target), axis=-1)


def accepted_length(acceptances: Float[Array, "k b t"]) -> Float[Array, "b t"]:
    """Return `Σ_k Π_(j<=k) a_j(t - K + j)`, tokens, at the last t of each K.

    The first K - 1 of a row hold numbers without a meaning.

    Source: Leviathan et al. 2022 (arXiv:2211.17192), section 3.1.

    Args:
      acceptances: a_j of step j at each token; the last axis is time.
    """
    count = len(acceptances)
    aligned = jnp.stack(
        [jnp.roll(a, count - 1 - j, axis=-1) for j, a in enumerate(acceptances)]
    )
    return jnp.sum(jnp.cumprod(aligned, axis=0), axis=0)
