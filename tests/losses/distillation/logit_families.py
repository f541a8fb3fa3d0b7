"""Formulas of published logit losses as float64 loops, and compiled losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, softmax

import losses

VOCABULARY = 6


def decoupled64(t, s, y, *, temperature, target_weight, non_target_weight):
    """As printed: probabilities, the target cut out of the row."""
    p, q = softmax(t / temperature), softmax(s / temperature)
    p_pair, q_pair = np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]])
    p_hat, q_hat = np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y])
    of_target = np.sum(p_pair * np.log(p_pair / q_pair))
    of_others = np.sum(p_hat * np.log(p_hat / q_hat))
    weighted = target_weight * of_target + non_target_weight * of_others
    return temperature**2 * weighted


def normalized64(t, s, y, *, temperature, gamma):
    of_target = -softmax(t)[y] * log_softmax(s)[y]
    p_hat = softmax(np.delete(t, y) / temperature)
    log_q_hat = log_softmax(np.delete(s, y) / temperature)
    return of_target - gamma * temperature**2 * np.sum(p_hat * log_q_hat)


def plackett_luce64(t, s, y, *, temperature):
    order = [y, *[int(i) for i in np.argsort(-t) if i != y]]
    weights = softmax(t / temperature)
    total = 0.0
    for place, entry in enumerate(order):
        left = np.array([s[i] for i in order[place:]])
        total += weights[entry] * (np.log(np.sum(np.exp(left))) - s[entry])
    return total


def standardized64(t, s, y, *, temperature, ddof):
    del y
    z = [(x - x.mean()) / x.std(ddof=ddof) / temperature for x in (t, s)]
    p, log_q = softmax(z[0]), log_softmax(z[1])
    return temperature**2 * np.sum(p * (np.log(p) - log_q))


def binary64(t, s, y, *, temperature):
    del y
    p, q = (1 / (1 + np.exp(-x / temperature)) for x in (t, s))
    terms = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * np.sum(terms)


def binary_norm64(t, s, y, *, temperature):
    """As the code has it: KL of a half from the sigmoid of the gap."""
    del y
    q = 1 / (1 + np.exp(-(s - t) / temperature))
    return temperature**2 * np.sum(0.5 * np.log(0.5 / q) + 0.5 * np.log(0.5 / (1 - q)))


def inter_class64(t, s, y, *, temperature):
    del y
    r = np.corrcoef(softmax(t / temperature), softmax(s / temperature))[0, 1]
    return temperature**2 * (1 - r)


SQUARED = {"scale_by_temperature_squared": True}


REFERENCES = {
    "decoupled": (
        losses.DecoupledKD(
            temperature=4.0, target_weight=1.0, non_target_weight=8.0, **SQUARED
        ),
        functools.partial(
            decoupled64, temperature=4.0, target_weight=1.0, non_target_weight=8.0
        ),
    ),
    "decoupled, plain": (
        losses.DecoupledKD(target_weight=0.3),
        functools.partial(
            decoupled64, temperature=1.0, target_weight=0.3, non_target_weight=1.0
        ),
    ),
    "normalized, ImageNet": (
        losses.NormalizedKD(non_target_weight=1.5, **SQUARED),
        functools.partial(normalized64, temperature=1.0, gamma=1.5),
    ),
    "normalized, CIFAR": (
        losses.NormalizedKD(temperature=3.0, non_target_weight=3.5, **SQUARED),
        functools.partial(normalized64, temperature=3.0, gamma=3.5),
    ),
    "plackett_luce": (
        losses.PlackettLuce(),
        functools.partial(plackett_luce64, temperature=1.0),
    ),
    "plackett_luce, hot": (
        losses.PlackettLuce(temperature=4.0),
        functools.partial(plackett_luce64, temperature=4.0),
    ),
    "standardized": (
        losses.Standardized(loss=losses.ForwardKL(temperature=2.0, **SQUARED)),
        functools.partial(standardized64, temperature=2.0, ddof=0),
    ),
    "standardized, Bessel": (
        losses.Standardized(loss=losses.ForwardKL(temperature=2.0, **SQUARED), ddof=1),
        functools.partial(standardized64, temperature=2.0, ddof=1),
    ),
    "binary": (
        losses.BinaryKL(temperature=2.0, **SQUARED),
        functools.partial(binary64, temperature=2.0),
    ),
    "binary_norm": (
        losses.BinaryKLNorm(temperature=2.0, **SQUARED),
        functools.partial(binary_norm64, temperature=2.0),
    ),
    "inter_class": (
        losses.InterClassCorrelation(temperature=4.0, **SQUARED),
        functools.partial(inter_class64, temperature=4.0),
    ),
}


def drawn(shape=(2, 4), *, seed=0, scale=2.0):
    """Logits of teacher and student, and targets."""
    draw = np.random.default_rng(seed)
    t, s = draw.normal(size=(2, *shape, VOCABULARY), scale=scale)
    return t, s, draw.integers(0, VOCABULARY, shape)


def outputs(t, s, targets):
    return losses.FullOutputs(
        batch={"targets": jnp.asarray(targets, jnp.int32)},
        logits=jnp.asarray(s, jnp.float32),
        teacher=losses.TeacherOutputs(logits=jnp.asarray(t, jnp.float32)),
    )


@functools.cache
def compiled(loss):
    """Jitted `(s, t, targets) -> ((sum, values), gradient in s)`."""

    def total(s, t, targets):
        values = loss(outputs(t, s, targets))
        return jnp.sum(values), values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def value_and_gradient(loss, t, s, targets):
    s, t = (jnp.asarray(x, jnp.float32) for x in (s, t))
    (_, values), grad = compiled(loss)(s, t, jnp.asarray(targets, jnp.int32))
    return np.asarray(values, np.float64), np.asarray(grad, np.float64)


def value(loss, t, s, targets):
    return value_and_gradient(loss, t, s, targets)[0]


def gradient(loss, t, s, targets):
    return value_and_gradient(loss, t, s, targets)[1]
