"""Drawn trees of terms and weights over drawn batches, against plain Python.

python -m pytest -m slow tests/losses/weighting/hunt_test.py
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import CrossEntropy, Group, LossTerm, MatchValue
from losses.core.batch_weights import BalanceInputs
from losses.weighting.weights import balances, term_weights

pytestmark = pytest.mark.slow

NAMES, STEPS = ("a", "b", "c", "d"), 5
VALUES = (1.0, 0.1, 3.0, 1e-3, 7.0, -1e-8, 0.0, -1.0, math.nan, math.inf)


def drawn_weight(random, inside):
    """A number, zero, a schedule, or a balance to a term that is not inside."""
    kind = random.integers(5)
    if kind < 2:
        return 0.0 if kind else float(random.normal())
    if kind == 2:
        rate = float(random.random())
        return lambda step: rate * step
    return MatchValue(
        to=str(random.choice([x for x in NAMES if x not in inside])),
        scale=float(random.choice([0.5, 1.0, 3.0])),
        decay=float(random.choice([0.0, 0.5, 0.9])),
        cap=random.choice([None, 2.0, 50.0]),
    )


def ratio(balance, own, values, history):
    """Weight of a `MatchValue`, and its ratios so far; None for a skipped batch."""
    to = values[balance.to]
    usable = math.isfinite(own) and own >= -1e-6 and own != 0.0
    usable = usable and math.isfinite(to) and to >= -1e-6
    now = max(to, 0.0) / max(own, balance.eps) if usable else None
    if now is not None and balance.cap is not None:
        now = min(now, balance.cap)
    if not balance.decay or now is None:
        return (0.0 if now is None else balance.scale * now), [*history, now]
    history = [*history, now]
    filled = []
    for x in history:  # a skipped batch repeats the mean before it, or the first ratio
        if x is not None and all(y is None for y in filled):
            filled = [x] * len(filled)
        skipped = x is None and any(y is not None for y in filled)
        filled.append(mean(filled, balance.decay) if skipped else x)
    return balance.scale * mean(filled, balance.decay), history


def mean(ratios, decay):
    shares = decay ** np.arange(len(ratios))[::-1]
    return float(np.sum(shares * np.array(ratios)) / np.sum(shares))


def plain_weights(items, values, step, histories):
    """Effective weights of the terms, a group's after those in it."""

    def factors(item):
        if isinstance(item, LossTerm):
            own = {item.name: 1.0}
        else:
            own = {n: c for x in item.terms for n, c in factors(x).items()}
        weight: Any = item.weight
        if isinstance(weight, MatchValue):
            total = sum(c * values[n] for n, c in own.items() if c)
            history = histories.get(item.name, [])
            weight, histories[item.name] = ratio(weight, total, values, history)
        elif callable(weight):
            weight = weight(step)
        return {n: weight * c for n, c in own.items()}

    return {n: c for item in items for n, c in factors(item).items()}


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_those_of_plain_python(seed):
    random = np.random.default_rng(seed)
    weight = functools.partial(drawn_weight, random)

    def term(name):
        return LossTerm(name=name, loss=CrossEntropy(), weight=weight([name]))

    inner = Group(name="g", terms=[term("b"), term("c")], weight=weight("bc"))
    outer = Group(name="h", terms=[inner, term("d")], weight=weight("bcd"))
    items = [LossTerm(name="a", loss=CrossEntropy()), outer]
    found = balances(items)
    params = {name: balance.params() for name, balance in found.items()}
    memory = {name: balance.initial() for name, balance in found.items()}
    compute = jax.jit(
        lambda inputs, memory: term_weights(items, inputs, params, memory)
    )
    histories = {}
    for step in range(STEPS):
        values = {name: np.float32(random.choice(VALUES)) for name in NAMES}
        means = {name: jnp.asarray(x) for name, x in values.items()}
        inputs = BalanceInputs(step=jnp.int32(step), means=means, names=NAMES)
        result = compute(inputs, memory)
        memory = result.memory
        expected = plain_weights(
            items, {name: float(x) for name, x in values.items()}, step, histories
        )
        actual = {name: float(x) for name, x in result.effective.items()}
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-7), (step, values)
