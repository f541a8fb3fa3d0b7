"""Losses of whole sequences' log-probabilities, nats: one value a pair or completion.

`chosen` and `rejected` are the student's sums (or means) of log-probabilities over a
completion, `reference_...` those of the reference; arrays of equal shape `[*b]`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

LogProb = Float[Array, "*b"]

_CERTAIN = -1e-6
"""The largest log-probability of `log_odds`: nearer to 0 they have no float32."""


def dpo(
    chosen: LogProb,
    rejected: LogProb,
    reference_chosen: LogProb,
    reference_rejected: LogProb,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> LogProb:
    """Return `-(1-ε) log σ(βh) - ε log σ(-βh)`, nats; log 2 at h = 0.

    `h = (chosen - reference_chosen) - (rejected - reference_rejected)`.

    Source: Rafailov et al. 2023 (arXiv:2305.18290), eq. 7; ε: Mitchell 2023, cDPO.
    """
    h = _gap(chosen, rejected, reference_chosen, reference_rejected)
    return _smoothed(beta * h, label_smoothing)


def ipo(
    chosen: LogProb,
    rejected: LogProb,
    reference_chosen: LogProb,
    reference_rejected: LogProb,
    *,
    beta: float = 0.1,
) -> LogProb:
    """Return `(h - 1/(2β))²`, nats², h as in `dpo`.

    Source: Azar et al. 2023 (arXiv:2310.12036), eq. 17, where β is τ.
    """
    h = _gap(chosen, rejected, reference_chosen, reference_rejected)
    return jnp.square(h - 1.0 / (2.0 * beta))


def hinge_dpo(
    chosen: LogProb,
    rejected: LogProb,
    reference_chosen: LogProb,
    reference_rejected: LogProb,
    *,
    beta: float = 0.1,
) -> LogProb:
    """Return `max(0, 1 - βh)`, h as in `dpo`.

    Source: Liu et al. 2023 (arXiv:2309.06657), section 3.2; after SLiC (2305.10425).
    """
    h = _gap(chosen, rejected, reference_chosen, reference_rejected)
    return jnp.maximum(0.0, 1.0 - beta * h)


def bradley_terry(
    difference: LogProb, tie: Float[Array, "*b"] | None = None, *, margin: float = 0.0
) -> LogProb:
    """Return `-log σ(d - m)`, and of a tie `-log σ(d - m) - log σ(-d - m)`, nats.

    d is the reward of the chosen less that of the other one. With
    `P(tie) ∝ (e^{2m} - 1) σ(d - m) σ(-d - m)` it is the likelihood of Rao and Kupper
    (1967), θ = e^m, but for a constant of the ties, which are never below
    `2 log(1 + e^m)`: 6.0972 at m = 3.

    Source: SoliReward (arXiv:2512.22170), m = 3.

    Args:
      difference: d.
      tie: 1 where neither is better, 0 where the first is; None for no ties.
      margin: m.
    """
    difference = _float32(difference)
    win = jax.nn.softplus(margin - difference)
    if tie is None:
        return win
    return win + _float32(tie) * jax.nn.softplus(margin + difference)


def simpo(
    chosen: LogProb,
    rejected: LogProb,
    *,
    beta: float = 2.0,
    margin: float = 0.5,
    label_smoothing: float = 0.0,
) -> LogProb:
    """Return `dpo` of `β (chosen - rejected) - γ`, of means and without a reference.

    Source: Meng et al. 2024 (arXiv:2405.14734), eq. 6.

    Args:
      chosen: mean over the completion.
      rejected: the same.
      beta: β.
      margin: γ.
      label_smoothing: ε of `dpo`.
    """
    h = _float32(chosen) - _float32(rejected)
    return _smoothed(beta * h - margin, label_smoothing)


def odds_ratio(chosen: LogProb, rejected: LogProb) -> LogProb:
    """Return `-log σ(log odds(chosen) - log odds(rejected))`, nats.

    `odds(x) = e^x / (1 - e^x)`, x being the mean over the completion; within 1e-6 of 0
    it is taken there, and has no gradient.

    Source: Hong et al. 2024, ORPO (arXiv:2403.07691), eq. 4 and 7, less the
    cross-entropy of the chosen, which is a term beside it.
    """
    return -jax.nn.log_sigmoid(_log_odds(chosen) - _log_odds(rejected))


def kto(
    completion: LogProb,
    reference: LogProb,
    desirable: Float[Array, "*b"],
    baseline: Float[Array, ""] | float = 0.0,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LogProb:
    """Return `w (1 - σ(±β (r - z)))`, `r = completion - reference`; no unit.

    The sign and w are those of a desirable or an undesirable completion.

    Source: Ethayarajh et al. 2024 (arXiv:2402.01306), eq. 7 and 8.

    Args:
      completion: sum over the completion.
      reference: the reference's.
      desirable: 1 where it is, 0 where it is not.
      baseline: z, not below 0; its gradient is stopped.
      beta: β.
      desirable_weight: w of the desirable.
      undesirable_weight: w of the others.
    """
    r = _float32(completion) - _float32(reference)
    z = jax.lax.stop_gradient(baseline)
    good = _float32(desirable) > 0.0
    sign = jnp.where(good, 1.0, -1.0)
    weight = jnp.where(good, desirable_weight, undesirable_weight)
    return weight * jax.nn.sigmoid(-sign * beta * (r - z))


def _float32(x: LogProb | float) -> LogProb:
    return jnp.asarray(x, jnp.float32)


def reward_margin(
    chosen: LogProb,
    rejected: LogProb,
    reference_chosen: LogProb | float = 0.0,
    reference_rejected: LogProb | float = 0.0,
    *,
    beta: float = 0.1,
) -> LogProb:
    """Return `β h`, h as in `dpo`; without a reference, of the student alone."""
    return beta * _gap(chosen, rejected, reference_chosen, reference_rejected)


def pair_accuracy(
    chosen: LogProb,
    rejected: LogProb,
    reference_chosen: LogProb | float = 0.0,
    reference_rejected: LogProb | float = 0.0,
) -> LogProb:
    """Return 1 where `h > 0`, else 0; h as in `dpo`, or of the student alone."""
    h = _gap(chosen, rejected, reference_chosen, reference_rejected)
    return (h > 0.0).astype(jnp.float32)


def _gap(
    chosen: LogProb,
    rejected: LogProb,
    reference_chosen: LogProb | float,
    reference_rejected: LogProb | float,
) -> LogProb:
    """Return h, float32."""
    student = _float32(chosen) - _float32(rejected)
    reference = _float32(reference_chosen) - _float32(reference_rejected)
    return student - jax.lax.stop_gradient(reference)


def _smoothed(margin: LogProb, label_smoothing: float) -> LogProb:
    """Return `-(1-ε) log σ(x) - ε log σ(-x)`."""
    return (1.0 - label_smoothing) * jax.nn.softplus(
        -margin
    ) + label_smoothing * jax.nn.softplus(margin)


def _log_odds(log_prob: LogProb) -> LogProb:
    x = jnp.minimum(_float32(log_prob), _CERTAIN)
    return x - jnp.log(-jnp.expm1(x))


def bpr(chosen: Float[Array, "*b"], other: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Return `log(1 + exp(other - chosen))`, nats, of two scores.

    Source: Rendle et al. 2009 (arXiv:1205.2618), section 4.1.
    """
    return jax.nn.softplus(other.astype(jnp.float32) - chosen.astype(jnp.float32))


def rank(
    logits: Float[Array, "*b v"],
    targets: Int[Array, "*b"],
    among: Bool[Array, "*b v"] | None = None,
) -> Float[Array, "*b"]:
    """Return 1 + the number of others that score no less than the target, float32.

    NaN is no less than any score, and any score no less than it.

    Args:
      logits: s.
      targets: ids.
      among: outputs that count; None for all.
    """
    own = jnp.take_along_axis(logits, targets[..., None], axis=-1)
    places = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    ahead = ~(logits < own) & (places != targets[..., None])
    if among is not None:
        ahead &= among
    return 1.0 + jnp.sum(ahead, axis=-1, dtype=jnp.float32)


def one_candidate(
    values: Float[Array, "b n"],
    there: Bool[Array, "b n"],
    noise: Float[Array, "b n"],
    *,
    scale: Float[Array, ""] | float,
) -> Float[Array, "b n"]:
    """Return `n_i 1[j = J_i]`, `J_i ~ softmax_j(-scale values_ij)` over those there.

    n_i of row i are there; it is 0 in a row of none.

    Source: Zhang et al. 2025 (arXiv:2502.00348), its resampling.

    Args:
      values: losses of the candidates.
      there: which of them there are.
      noise: of Gumbel's distribution: the largest sum is a draw.
      scale: 1 over the temperature; 0 draws all alike.
    """
    finite = jnp.where(there, values, 0.0)
    scores = jnp.where(there, noise - scale * finite, -jnp.inf)
    places = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
    drawn = there & (places == jnp.argmax(scores, axis=1)[:, None])
    count = jnp.sum(there, axis=1, keepdims=True, dtype=jnp.float32)
    return jnp.where(drawn, count, 0.0)
