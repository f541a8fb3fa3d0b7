"""Divergences between the softmaxes of teacher and student logits.

`p = softmax(teacher_logits / T)` and `q = softmax(student_logits / T)`, over the first
`min(v, w)` ids where the widths differ. Values are not times T²; the teacher's gradient
is not stopped. Each function's source is given by the loss class of its name.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from losses.functional import log_probs
from losses.functional.log_probs import floored, log_probabilities
from losses.functional.vocabulary import log_normalizer

Student = Float[Array, "*b v"]
Teacher = Float[Array, "*b w"]
PerToken = Float[Array, "*b"]


def forward_kl(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `KL(p‖q)`, nats.

    Source: Hinton et al. 2015 (arXiv:1503.02531), section 2.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.kl(log_p, log_q)


def forward_kl_from_samples(
    student_logits: Student,
    samples: Int[Array, "*b n"],
    teacher_entropy: PerToken,
    temperature: float = 1.0,
) -> PerToken:
    """Return `-1/n Σ_i log q_{x_i} - H(p)`, nats: `KL(p‖q)` estimated without bias.

    Source: Anshumann et al. 2025 (arXiv:2503.16870).

    Args:
      student_logits: s.
      samples: ids x drawn from p.
      teacher_entropy: `H(p)` at T, nats.
      temperature: T.
    """
    logits = student_logits.astype(jnp.float32)
    at_samples = jnp.take_along_axis(logits, samples, axis=-1)
    log_z = log_normalizer(logits, temperature)
    log_q = floored(at_samples / temperature - log_z[..., None])
    return sampled_cross_entropy(log_q) - teacher_entropy.astype(jnp.float32)


def sampled_cross_entropy(log_q: Float[Array, "*b n"]) -> PerToken:
    """Return `-1/n Σ_i log q_{x_i}`, nats, of ids x drawn from p."""
    return -jnp.mean(log_q, axis=-1)


def reverse_kl(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `KL(q‖p)`, nats.

    Source: Gu et al. 2023, MiniLLM (arXiv:2306.08543), section 2.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.kl(log_q, log_p)


def symmetric_kl(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    reverse_weight: float = 0.5,
) -> PerToken:
    """Return `(1 - w) KL(p‖q) + w KL(q‖p)`, nats, w being `reverse_weight`."""
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.symmetric_kl(*both, reverse_weight=reverse_weight)


def jensen_shannon(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    beta: float = 0.5,
) -> PerToken:
    """Return `β KL(p‖m) + (1 - β) KL(q‖m)`, nats, with `m = β p + (1 - β) q`.

    Source: Agarwal et al. 2023, GKD (arXiv:2306.13649), section 2.
    """
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.jensen_shannon(*both, beta=beta)


def skew_forward_kl(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    skew: float = 0.1,
) -> PerToken:
    """Return `KL(p ‖ α p + (1 - α) q)`, nats, α being `skew`.

    Source: Ko et al. 2024, DistiLLM (arXiv:2402.03898), section 3.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.skew_kl(log_p, log_q, skew=skew)


def skew_reverse_kl(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    skew: float = 0.1,
) -> PerToken:
    """Return `KL(q ‖ (1 - α) p + α q)`, nats, α being `skew`.

    Source: Ko et al. 2024, DistiLLM (arXiv:2402.03898), section 3.
    """
    log_p, log_q = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.skew_kl(log_q, log_p, skew=skew)


def total_variation(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `1/2 Σ_v |p_v - q_v|`, in [0, 1].

    Source: Wen et al. 2023, f-DISTILL (arXiv:2307.15190), section 3.
    """
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.total_variation(*both)


def alpha_divergence(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    order: float = 0.5,
) -> PerToken:
    """Return `(1 - Σ_v p_v^a q_v^(1-a)) / (a (1-a))`, nats, a being `order`.

    Orders 2 and -1 are half of Pearson's and of Neyman's χ².

    Source: Amari's family as in the survey arXiv:2604.00626.
    """
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.alpha_divergence(*both, order=order)


def alpha_beta_divergence(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    alpha: float,
    beta: float,
) -> PerToken:
    """Return `Σ_v (α p_v^s / s + β q_v^s / s - p_v^α q_v^β) / (α β)`, s = α + β.

    Source: Wang et al. 2025, ABKD (arXiv:2505.04560).
    """
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.alpha_beta_divergence(*both, alpha=alpha, beta=beta)


def renyi_divergence(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    order: float = 0.5,
) -> PerToken:
    """Return `1/(a-1) log Σ_v p_v^a q_v^(1-a)`, nats, a being `order`.

    Source: van Erven and Harremoës 2012 (arXiv:1206.2459).
    """
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.renyi_divergence(*both, order=order)


def adaptive_kl(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    head_mass: float = 0.5,
) -> PerToken:
    """Return `w KL(p‖q) + (1 - w) KL(q‖p)`, nats, with `w = gap_head / gap`.

    `gap` is `Σ_v |p_v - q_v|`, over the head of p or over all v; w has no gradient.

    Source: Wu et al. 2024 (arXiv:2404.02657).
    """
    both = log_probabilities(student_logits, teacher_logits, temperature)
    return log_probs.adaptive_kl(*both, head_mass=head_mass)


def todi(
    student_logits: Student, teacher_logits: Teacher, temperature: float = 1.0
) -> PerToken:
    """Return `Σ_v (w_v p_v log(p_v/q_v) + (1 - w_v) q_v log(q_v/p_v))`, nats.

    `w_v = p_v / (p_v + q_v)`, without a gradient.

    Source: Jung et al. 2025, ToDi (arXiv:2505.16297).
    """
    return log_probs.todi(
        *log_probabilities(student_logits, teacher_logits, temperature)
    )


def over_student_best(
    student_logits: Student,
    teacher_logits: Teacher,
    temperature: float = 1.0,
    *,
    best: int = 64,
) -> PerToken:
    """Return `KL(q‖p)` over the student's `best` entries and the rest, nats.

    Args:
      student_logits: of q.
      teacher_logits: of p; of other widths, the ids that both have are compared.
      temperature: T of both.
      best: k, the entries that are compared one by one.
    """
    sides = log_probabilities(student_logits, teacher_logits, temperature)
    log_p, log_q = log_probs.student_best_entries(*sides, best=best)
    return log_probs.kl(log_q, log_p, partial=True)
