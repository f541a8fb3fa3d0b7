"""Choice of experts by groups: against loops in float64."""

import jax
import numpy as np
import pytest

from models import MoE, Routing
from tests.models.states import random_module


def test_experts_and_gates_are_those_of_the_best_groups():
    draw = np.random.default_rng(0)
    logits, bias = draw.normal(0, 2, (40, 12)), draw.normal(0, 0.3, 12)
    routing = Routing(
        scores="sigmoid", num_groups=4, groups_per_token=2, gate_scale=2.5
    )
    choose = jax.jit(routing.choose, static_argnums=(2, 3))
    gates, chosen = choose(logits.astype(np.float32), bias.astype(np.float32), 5, True)
    for token, x in enumerate(logits):
        p = 1 / (1 + np.exp(-x))
        biased = p + bias
        sums = [np.sort(group)[-2:].sum() for group in biased.reshape(4, 3)]
        of_groups = [e for e in range(12) if e // 3 in np.argsort(sums)[-2:]]
        best = sorted(of_groups, key=lambda e: -biased[e])[:5]
        assert chosen[token].tolist() == best
        expected = 2.5 * p[best] / p[best].sum()
        np.testing.assert_allclose(gates[token], expected, rtol=1e-5)


def test_numbers_that_do_not_fit_are_refused():
    for fields, message in [
        ({"scores": "tanh"}, "scores must be one of .*'softmax'.*got 'tanh'"),
        ({"num_groups": 3}, "num_experts must be divisible by num_groups, got 8 and 3"),
        ({"num_groups": 8}, "groups of 1 experts, 1 a token"),
        ({"num_groups": 2, "groups_per_token": 3}, "from 1 to num_groups .2., got 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            random_module(MoE, dim=6, num_experts=8, routing=Routing(**fields))
