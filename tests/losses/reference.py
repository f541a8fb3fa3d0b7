"""Float64 NumPy formulas of the losses of logits, written from their docstrings.

`p` and `q` are lists of log-probabilities of teacher and student, `[n v]`, nats, at
least `FLOOR`; `s` and `t` their logits; `y` the targets, `[n]`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

FLOOR = -1e5


def log_sum_exp(x):
    top = np.max(x, axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(x - top), axis=-1)) + top[..., 0]


def normalized(x):
    return x - log_sum_exp(x)[..., None]


def log_probabilities(logits, temperature=1.0):
    return np.maximum(normalized(logits / temperature), FLOOR)


def kl(a, b, partial=False):
    mass = np.exp(a)
    parts = mass * (a - b) + (np.exp(b) - mass if partial else 0.0)
    return parts.sum(axis=-1)


def mixture(a, b, share):
    return np.logaddexp(np.log(share) + a, np.log1p(-share) + b)


def jensen_shannon(p, q, beta):
    m = mixture(p, q, beta)
    return beta * kl(p, m) + (1.0 - beta) * kl(q, m)


def alpha_divergence(p, q, order):
    mean = order * np.exp(p) + (1 - order) * np.exp(q)
    gaps = mean - np.exp(order * p + (1 - order) * q)
    return gaps.sum(axis=-1) / (order * (1 - order))


def adaptive_kl(p, q, head_mass=0.5):
    weights, mass = np.zeros(len(p)), np.exp(p)
    for i, (row, gap) in enumerate(zip(mass, np.abs(mass - np.exp(q)), strict=True)):
        order = np.argsort(-row, kind="stable")
        head = np.cumsum(row[order]) <= head_mass
        head[0] = True
        weights[i] = gap[order][head].sum() / max(gap.sum(), 1e-30)
    return weights * kl(p, q) + (1.0 - weights) * kl(q, p)


class Formula(NamedTuple):
    """A divergence: its class, its arguments, its value of p, q and `partial`."""

    of: str
    arguments: dict[str, float]
    value: Callable[..., np.ndarray]


DIVERGENCES = {
    "forward_kl": Formula("ForwardKL", {}, kl),
    "reverse_kl": Formula("ReverseKL", {}, lambda p, q, partial: kl(q, p, partial)),
    "symmetric_kl": Formula(
        "SymmetricKL",
        {"reverse_weight": 0.3},
        lambda p, q, partial: 0.7 * kl(p, q, partial) + 0.3 * kl(q, p, partial),
    ),
    "jensen_shannon": Formula(
        "JensenShannon", {"beta": 0.3}, lambda p, q, _: jensen_shannon(p, q, 0.3)
    ),
    "skew_forward_kl": Formula(
        "SkewForwardKL",
        {"skew": 0.1},
        lambda p, q, partial: kl(p, mixture(p, q, 0.1), partial),
    ),
    "skew_reverse_kl": Formula(
        "SkewReverseKL",
        {"skew": 0.1},
        lambda p, q, partial: kl(q, mixture(q, p, 0.1), partial),
    ),
    "total_variation": Formula(
        "TotalVariation",
        {},
        lambda p, q, _: 0.5 * np.abs(np.exp(p) - np.exp(q)).sum(axis=-1),
    ),
    "alpha_divergence": Formula(
        "AlphaDivergence", {"order": 0.3}, lambda p, q, _: alpha_divergence(p, q, 0.3)
    ),
    "renyi_divergence": Formula(
        "RenyiDivergence", {"order": 2.0}, lambda p, q, _: log_sum_exp(2 * p - q)
    ),
}
"""By function: a divergence whose value over entries is one of lists."""


def apart(x, y):
    """Return log-probabilities of (y, the rest), of the others, and where y is."""
    is_y = np.arange(x.shape[-1]) == y[..., None]
    rest = log_sum_exp(np.where(is_y, -np.inf, x))
    pair = np.stack([np.where(is_y, x, 0.0).sum(axis=-1), rest], axis=-1)
    return pair, np.where(is_y, 0.0, x - rest[..., None]), is_y


def decoupled_kd(p, q, y, non_target_weight):
    (pair_p, p_hat, is_y), (pair_q, q_hat, _) = apart(p, y), apart(q, y)
    others = np.where(is_y, 0.0, np.exp(p_hat) * (p_hat - q_hat)).sum(axis=-1)
    return kl(pair_p, pair_q) + non_target_weight * others


def normalized_kd(s, t, y, temperature, non_target_weight):
    (pair_p, _, is_y), (pair_q, _, _) = (apart(log_probabilities(x), y) for x in (t, s))
    p_hat, q_hat = (apart(log_probabilities(x, temperature), y)[1] for x in (t, s))
    others = np.where(is_y, 0.0, np.exp(p_hat) * q_hat).sum(axis=-1)
    return -np.exp(pair_p[..., 0]) * pair_q[..., 0] - non_target_weight * others


def plackett_luce(s, t, y, temperature):
    p, q = log_probabilities(t, temperature), log_probabilities(s)
    values = np.zeros(len(y))
    for i, target in enumerate(y):
        ranked = [j for j in np.argsort(-t[i], kind="stable") if j != target]
        ids = [target, *ranked]
        for k, j in enumerate(ids):
            values[i] += np.exp(p[i, j]) * (log_sum_exp(q[i, ids[k:]]) - q[i, j])
    return values


def logit_pairs(s, t, temperature):
    """Return `s / T`, `t / T` and where both are finite; 0 where they are not."""
    finite = np.isfinite(s) & np.isfinite(t)
    return *(np.where(finite, x, 0.0) / temperature for x in (s, t)), finite


def logit_mse(s, t, temperature):
    s, t, finite = logit_pairs(s, t, temperature)
    return np.square(s - t).sum(axis=-1) / finite.sum(axis=-1)


def binary_kl(s, t, temperature):
    s, t, _ = logit_pairs(s, t, temperature)
    # log σ(x) = -log(1 + e^-x)
    yes = np.logaddexp(0, -s) - np.logaddexp(0, -t)
    no = np.logaddexp(0, s) - np.logaddexp(0, t)
    sure = np.exp(-np.logaddexp(0, -t))
    return (sure * yes + np.exp(-np.logaddexp(0, t)) * no).sum(axis=-1)


def binary_kl_norm(s, t, temperature):
    s, t, _ = logit_pairs(s, t, temperature)
    half = (s - t) / 2
    return (np.logaddexp(half, -half) - np.log(2)).sum(axis=-1)


def inter_class_correlation(s, t, temperature, epsilon=1e-12):
    p, q = (np.exp(log_probabilities(x, temperature)) for x in (t, s))
    p, q = (x - x.mean(axis=-1, keepdims=True) for x in (p, q))
    variances = (np.square(x).sum(axis=-1) + epsilon for x in (p, q))
    return 1.0 - (p * q).sum(axis=-1) / np.sqrt(np.prod(list(variances), axis=0))


class Entries(NamedTuple):
    """Both sides over stored entries, as a convention of `SparseMode` has them."""

    p: np.ndarray
    q: np.ndarray
    rest: bool = False
    partial: bool = False


def over_entries(s, t, ids, y, temperature, sparse):
    """Return what a convention compares, given the ids of the k best entries."""
    p, q = log_probabilities(t, temperature), log_probabilities(s, temperature)
    p_k, q_k = (np.take_along_axis(x, ids, axis=-1) for x in (p, q))
    if sparse == "renormalize_both":
        return Entries(normalized(p_k), normalized(q_k))
    if sparse == "truncate":
        return Entries(p_k, q_k, partial=True)
    outside = np.ones(p.shape, bool)
    np.put_along_axis(outside, ids, False, axis=-1)

    def mass_in(x, where):
        return np.maximum(log_sum_exp(np.where(where, x, -np.inf)), FLOOR)[..., None]

    # What is left of the teacher goes to an entry of the rest, nowhere, or the target.
    nothing = np.full((len(p), 1), FLOOR)
    if sparse == "residual_to_target":
        is_y = np.arange(p.shape[-1]) == y[..., None]
        biased = np.where(outside, FLOOR, p)
        biased = np.where(is_y, np.logaddexp(biased, mass_in(p, outside)), biased)
        open_ = outside & ~is_y
        ours = np.where(open_, FLOOR, q)
        return Entries(
            np.concatenate([np.maximum(biased, FLOOR), nothing], axis=-1),
            np.concatenate([ours, mass_in(q, open_)], axis=-1),
            rest=True,
        )
    ours = np.concatenate([q_k, mass_in(q, outside)], axis=-1)
    if sparse == "tail_bucket":
        return Entries(np.concatenate([p_k, mass_in(p, outside)], -1), ours, rest=True)
    return Entries(np.concatenate([normalized(p_k), nothing], -1), ours, rest=True)
