"""Kernels in forward mode: the transpose of their own reverse rules.

`<J v, u> = <v, Jᵀ u>`: the left by `jax.jvp` under `forward_mode`, the right by the
rule that training uses.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import masks
from models.kernels import blocked_attention, expert_slots, grouped, projection
from models.kernels.forward_mode import forward_mode
from models.kernels.packing import Packing

IDS = jnp.asarray([[1, 1, 1, 2, 2, 2, 2, 2, 3]])


def attention(query, key, value):
    packing = Packing.of(IDS, None, block=4)
    return blocked_attention.attend(query, key, value, packing, soft_cap=2.0)


def logits(hidden, table):
    return projection.logits(hidden, table, "float32")


CHOICES = jnp.asarray([[0, 2], [1, 2], [2, 0]])


def experts(x, gates, *weights):
    layout = grouped.arrange(CHOICES, num_experts=3, block=2, capacity=1)
    choices = expert_slots.run(x, weights, layout, jax.nn.silu)
    return grouped.gated_sum(choices, gates)


def rows(x, gates):
    layout = grouped.arrange(CHOICES, num_experts=3, block=1)
    return grouped.from_rows(grouped.to_rows(x, layout), gates, layout)


KERNELS = {
    "attention": (attention, [(1, 9, 4, 3), (1, 9, 2, 3), (1, 9, 2, 3)]),
    "logits": (logits, [(3, 4), (5, 4)]),
    "experts": (experts, [(3, 4), (3, 2), (3, 4, 6), (3, 4, 6), (3, 6, 4)]),
    "rows": (rows, [(3, 4), (3, 2)]),
}


@functools.cache
def slopes():
    """By kernel, both values and both products, of one program."""

    def run(inputs):
        results = {}
        for name, (x, v, u) in inputs.items():
            kernel, _ = KERNELS[name]
            with forward_mode(True):
                value, slope = jax.jvp(kernel, x, v)
            expected, pullback = jax.vjp(kernel, *x)
            backward = sum(jnp.vdot(a, b) for a, b in zip(v, pullback(u), strict=True))
            results[name] = (value, expected), (jnp.vdot(slope, u), backward)
        return results

    draw = np.random.default_rng(0)

    def draws(shapes):
        return tuple(draw.normal(size=shape).astype(np.float32) for shape in shapes)

    inputs = {}
    for name, (kernel, shapes) in KERNELS.items():
        x, v = draws(shapes), draws(shapes)
        inputs[name] = x, v, *draws([jax.eval_shape(kernel, *x).shape])
    return jax.device_get(jax.jit(run)(inputs))


@pytest.mark.parametrize("name", KERNELS)
def test_forward_mode_is_the_transpose_of_the_reverse_rule(name):
    values, products = slopes()[name]
    np.testing.assert_array_equal(*values)
    np.testing.assert_allclose(*products, rtol=1e-4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_kernels_of_others_give_way_on_every_device(platform):
    heads = masks.Heads(width=64, dtype="bfloat16", soft_cap=None, sinks=False)
    for length, name in ((1024, "whole"), (8192, "blocks")):
        assert masks.kernel(length, heads, platform).name in ("cudnn", "splash")
        with forward_mode(True):
            assert masks.kernel(length, heads, platform).name == name


@pytest.mark.parametrize("name", KERNELS)
def test_outside_it_kernels_have_their_reverse_rule_alone(name):
    kernel, shapes = KERNELS[name]
    x = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jit(lambda *x: jax.jvp(kernel, x, x)).lower(*x)
