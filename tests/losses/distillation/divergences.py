"""Divergences: float64 formulas, and programs that evaluate many at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses

TOKENS, VOCABULARY = 4, 6


def kl64(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), axis=-1)


def jensen_shannon64(p, q, b):
    m = b * p + (1 - b) * q
    return b * kl64(p, m) + (1 - b) * kl64(q, m)


def adaptive64(p, q):
    """The paper's loop, a token at a time."""
    values = []
    for p_token, q_token in zip(p, q, strict=True):
        gaps, mass = [0.0, 0.0], 0.0
        for place, entry in enumerate(np.argsort(-p_token)):
            mass += p_token[entry]
            part = 1 if place > 0 and mass > 0.5 else 0
            gaps[part] += abs(p_token[entry] - q_token[entry])
        weight = gaps[0] / sum(gaps)
        forward, reverse = kl64(p_token, q_token), kl64(q_token, p_token)
        values.append(weight * forward + (1 - weight) * reverse)
    return np.array(values)


REFERENCES = {
    losses.ForwardKL(): kl64,
    losses.ReverseKL(): lambda p, q: kl64(q, p),
    losses.SymmetricKL(reverse_weight=0.9): lambda p, q: (
        0.1 * kl64(p, q) + 0.9 * kl64(q, p)
    ),
    losses.JensenShannon(): lambda p, q: jensen_shannon64(p, q, 0.5),
    losses.JensenShannon(beta=0.1): lambda p, q: jensen_shannon64(p, q, 0.1),
    losses.SkewForwardKL(skew=0.1): lambda p, q: kl64(p, 0.1 * p + 0.9 * q),
    losses.SkewReverseKL(skew=0.1): lambda p, q: kl64(q, 0.9 * p + 0.1 * q),
    losses.TotalVariation(): lambda p, q: np.maximum(p - q, 0).sum(-1),
    losses.AlphaDivergence(order=0.3): lambda p, q: (
        (1 - np.sum(p**0.3 * q**0.7, -1)) / 0.21
    ),
    losses.AlphaDivergence(order=0.5): lambda p, q: (
        2 * np.sum((np.sqrt(p) - np.sqrt(q)) ** 2, -1)
    ),
    losses.AlphaBetaDivergence(alpha=0.9, beta=0.3): lambda p, q: (
        -(p**0.9 * q**0.3 - 0.75 * p**1.2 - 0.25 * q**1.2).sum(-1) / 0.27
    ),
    losses.RenyiDivergence(order=0.3): lambda p, q: (
        np.log(np.sum(p**0.3 * q**0.7, -1)) / -0.7
    ),
    losses.RenyiDivergence(order=2.0): lambda p, q: np.log(np.sum(p**2 / q, -1)),
    losses.AdaptiveKL(): adaptive64,
}


# `g(u) = f(u) - u f'(u)` where `D = Σ_v q_v f(u_v)`, `u = p / q`.
GENERATORS = {
    losses.ForwardKL(): lambda u: -u,
    losses.ReverseKL(): lambda u: 1 - np.log(u),
    losses.SymmetricKL(reverse_weight=0.9): lambda u: -0.1 * u + 0.9 * (1 - np.log(u)),
    losses.JensenShannon(beta=0.3): lambda u: -0.7 * np.log(0.3 * u + 0.7),
    losses.SkewForwardKL(skew=0.1): lambda u: -0.9 * u / (0.1 * u + 0.9),
    losses.SkewReverseKL(skew=0.1): lambda u: (
        -np.log(0.9 * u + 0.1) + 0.9 * u / (0.9 * u + 0.1)
    ),
    losses.TotalVariation(): lambda u: -0.5 * np.sign(u - 1),
    losses.AlphaDivergence(order=0.3): lambda u: -(u**0.3 - 1) / 0.3,
}


def label(loss):
    fields = [name for name in ("beta", "skew", "order") if hasattr(loss, name)]
    return type(loss).__name__ + "".join(f"-{getattr(loss, x)}" for x in fields)


every_divergence = pytest.mark.parametrize("loss", REFERENCES, ids=label)


def outputs(t, s):
    t, s = jnp.asarray(t, jnp.float32), jnp.asarray(s, jnp.float32)
    batch = {"targets": jnp.zeros(s.shape[:-1], jnp.int32)}
    return losses.FullOutputs(
        batch=batch, logits=s, teacher=losses.TeacherOutputs(logits=t)
    )


ORDERS = tuple(losses.RenyiDivergence(order=a) for a in (0.2, 0.5, 1.0, 2.0, 8.0))


LIMITS = {
    losses.AlphaDivergence(order=0.999): losses.ForwardKL(),
    losses.AlphaDivergence(order=1.0): losses.ForwardKL(),
    losses.AlphaDivergence(order=0.001): losses.ReverseKL(),
    losses.AlphaDivergence(order=0.0): losses.ReverseKL(),
    losses.RenyiDivergence(order=0.999): losses.ForwardKL(),
    losses.RenyiDivergence(order=1.0): losses.ForwardKL(),
    losses.SkewForwardKL(skew=1e-4): losses.ForwardKL(),
    losses.SkewForwardKL(skew=0.0): losses.ForwardKL(),
    losses.SkewReverseKL(skew=0.0): losses.ReverseKL(),
    losses.SymmetricKL(reverse_weight=0.0): losses.ForwardKL(),
    losses.SymmetricKL(reverse_weight=1.0): losses.ReverseKL(),
}


HOT = {loss: dataclasses.replace(loss, temperature=2.0) for loss in REFERENCES}


SCALED = {
    loss: dataclasses.replace(hot, scale_by_temperature_squared=True)
    for loss, hot in HOT.items()
}


# What is evaluated at the same shapes is one program, which compiles faster than many.
TOGETHER = (
    tuple(dict.fromkeys([*REFERENCES, *GENERATORS])),
    (*HOT.values(), *SCALED.values()),
    tuple(dict.fromkeys([*ORDERS, *LIMITS])),
)


def together(loss):
    """The losses of the program that evaluates this one, and its place in them."""
    these = next((group for group in TOGETHER if loss in group), (loss,))
    return these, these.index(loss)


@functools.cache
def compiled(these):
    return jax.jit(lambda t, s: [loss(outputs(t, s)) for loss in these])


@functools.cache
def gradients_of(these):
    def gradient(loss, s, t):
        return jax.grad(lambda s: jnp.sum(loss(outputs(t, s))))(s)

    return jax.jit(lambda s, t: [gradient(loss, s, t) for loss in these])


def value(loss, t, s):
    """The loss in float32 of logits in float64."""
    these, place = together(loss)
    actual = compiled(these)(np.float32(t), np.float32(s))[place]
    return np.asarray(actual, np.float64)


def gradient(loss, t, s):
    these, place = together(loss)
    actual = gradients_of(these)(np.float32(s), np.float32(t))[place]
    return np.asarray(actual, np.float64)


def of(loss, p, q):
    """One token's value, from probabilities."""
    with np.errstate(divide="ignore"):
        return float(value(loss, np.log([p]), np.log([q]))[0])
