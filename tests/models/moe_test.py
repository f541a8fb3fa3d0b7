import dataclasses
import functools
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import MoE, biased_experts, moe, sharding
from models.biased_experts import Gating
from models.kernels import expert_slots, grouped
from models.mlp import ACTIVATIONS
from runner.head import flops
from tests.models.inputs import batch, mesh_of
from tests.models.states import random_module, transformer


def reference(x, gates, chosen, weights, dy):
    """Value and gradients by a float64 loop over tokens' choices, expert by expert."""
    x, gates, dy = (np.asarray(a, np.float64) for a in (x, gates, dy))
    gate, up, down = (np.asarray(w, np.float64) for w in weights)
    y, dx, dgates = np.zeros_like(x), np.zeros_like(x), np.zeros_like(gates)
    grads = [np.zeros_like(w) for w in (gate, up, down)]
    for e in range(gate.shape[0]):
        for j in range(chosen.shape[1]):
            rows = np.flatnonzero(np.asarray(chosen)[:, j] == e)
            share = gates[rows, j][:, None]
            a, b = x[rows] @ gate[e], x[rows] @ up[e]
            sigmoid = 1 / (1 + np.exp(-a))
            inner = a * sigmoid * b
            out = inner @ down[e]
            y[rows] += share * out
            dgates[rows, j] = np.sum(dy[rows] * out, axis=1)
            dout = share * dy[rows]
            dinner = dout @ down[e].T
            da = dinner * b * sigmoid * (1 + a * (1 - sigmoid))
            db = dinner * a * sigmoid
            dx[rows] += da @ gate[e].T + db @ up[e].T
            grads[0][e] += x[rows].T @ da
            grads[1][e] += x[rows].T @ db
            grads[2][e] += inner.T @ dout
    return y, (dx, dgates, tuple(grads))


def sorted_form(form, block, x, gates, chosen, weights):
    layout = grouped.arrange(chosen, num_experts=weights[0].shape[0], block=block)
    rows = form(grouped.to_rows(x, layout), weights, layout, jax.nn.silu)
    return grouped.from_rows(rows, gates, layout).astype(x.dtype)


def slotted(capacity, block, x, gates, chosen, weights):
    num_experts = weights[0].shape[0]
    layout = grouped.arrange(
        chosen, num_experts=num_experts, block=block, capacity=capacity
    )
    choices = expert_slots.run(x, weights, layout, jax.nn.silu)
    return grouped.gated_sum(choices, gates).astype(x.dtype)


FORMS = {
    "dense": lambda x, gates, chosen, weights: moe.dense(
        x, gates, chosen, weights, jax.nn.silu
    ),
    "ragged": functools.partial(sorted_form, grouped.ragged, 1),
    "ragged_blocks": functools.partial(sorted_form, grouped.ragged, 4),
    "slots": functools.partial(slotted, 5, 4),
    "few_slots": functools.partial(slotted, 1, 1),
    "chosen": functools.partial(moe.experts, activation=jax.nn.silu),
}


def example(tokens, dim, num_experts, k, width, seed=0):
    draw = np.random.default_rng(seed)
    shapes = [(num_experts, dim, width)] * 2 + [(num_experts, width, dim)]
    weights = tuple(jnp.asarray(np.float32(draw.normal(0, 0.5, s))) for s in shapes)
    x, dy = (jnp.asarray(np.float32(draw.normal(size=(tokens, dim)))) for _ in "xd")
    order = np.argsort(draw.normal(size=(tokens, num_experts)), axis=1)
    chosen = jnp.asarray(np.int32(order[:, :k]))
    gates = jnp.asarray(np.float32(draw.uniform(0, 1, (tokens, k))))
    return x, gates, chosen, weights, dy


@functools.cache
def compiled(form):
    def both(x, gates, chosen, weights, dy):
        def run(x, gates, weights):
            return FORMS[form](x, gates, chosen, weights)

        y, back = jax.vjp(run, x, gates, weights)
        return y, back(dy)

    return jax.jit(both)


def check(form, *args):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, compiled(form)(*args), reference(*args))


SHAPE = (9, 3, 4, 2, 5)  # the fast tests compile each form at this one
OTHER_SHAPES = [(1, 3, 6, 2, 5), (20, 3, 5, 3, 4), (7, 2, 3, 3, 1)]


@pytest.mark.parametrize(
    "shape",
    [SHAPE, *(pytest.param(shape, marks=pytest.mark.slow) for shape in OTHER_SHAPES)],
)
@pytest.mark.parametrize("form", FORMS)
def test_each_form_equals_a_loop_over_experts(form, shape):
    check(form, *example(*shape))


@pytest.mark.parametrize("form", FORMS)
@hypothesis.given(data=st.data())
def test_each_form_takes_any_choices(form, data):
    """Uneven loads, experts without tokens, a token that names an expert twice."""
    x, gates, chosen, weights, dy = example(*SHAPE)
    numbers = st.lists(st.integers(-1, 4), min_size=18, max_size=18)
    chosen = jnp.asarray(data.draw(numbers), jnp.int32).reshape(chosen.shape)
    check(form, x, gates, chosen, weights, dy)


@pytest.mark.parametrize("form", FORMS)
def test_one_expert_may_get_every_token(form):
    x, gates, chosen, weights, dy = example(*SHAPE)
    for favourite in (0, 2, 3):
        check(form, x, gates, jnp.full_like(chosen, favourite), weights, dy)


def test_slots_are_right_at_a_size_that_selects_them():
    """Of 300 tokens, some experts get more than the 112 slots of each, others fewer."""
    x, gates, chosen, weights, _ = example(300, 4, 6, 2, 8)
    favourites = chosen.at[:60].set(jnp.asarray([5, 0]))
    check("chosen", x, gates, favourites, weights, x)
    assert expert_rows(x, gates, favourites, weights) == {(6, 112)}


def expert_rows(x, gates, chosen, weights):
    """Return `(experts, rows)` of the products that run all experts at once."""
    form = functools.partial(moe.experts, activation=jax.nn.silu)
    program = str(jax.make_jaxpr(form)(x, gates, chosen, weights))
    width = weights[0].shape[-1]
    products = re.findall(rf"f32\[(\d+),(\d+),{width}\] = dot_general", program)
    return {(int(experts), int(rows)) for experts, rows in products}


def test_the_products_over_slots_are_counted():
    """Three products of each slot forward, six backward; the loop is not expected."""

    def run(x, gates, chosen, weights):
        def total(x, weights):
            return jnp.sum(
                moe.experts(x, gates, chosen, weights, activation=jax.nn.silu)
            )

        return jax.value_and_grad(total, argnums=(0, 1))(x, weights)

    for tokens, experts, slots in ((64, 32, 8), (256, 16, 40)):
        x, gates, chosen, weights, _ = example(tokens, 4, experts, 2, 8)
        inputs = (x, gates, chosen, weights)
        assert flops.matmul_flops(run, *inputs) == 9 * 2 * (experts * slots) * 4 * 8
        assert not flops.is_lower_bound(run, *inputs)


def test_many_experts_cost_their_weights_and_gradients_and_little_else():
    """64 experts: one more array as large as the weights would be 75 MB."""
    x, gates, chosen, weights, _ = example(1024, 192, 64, 2, 512)
    shapes = jax.eval_shape(lambda *xs: xs, x, gates, chosen, weights)

    def total(x, gates, chosen, weights):
        return jnp.sum(moe.experts(x, gates, chosen, weights, activation=jax.nn.silu))

    gradient = jax.jit(jax.grad(total, argnums=(0, 3)))
    memory = gradient.lower(*shapes).compile().memory_analysis()
    bytes_of_one = 4 * weights[0].size
    assert memory.output_size_in_bytes > 3 * bytes_of_one
    assert memory.temp_size_in_bytes < bytes_of_one


def test_each_block_belongs_to_one_expert():
    chosen = jnp.asarray([[2], [0], [2], [2], [0], [5]], jnp.int32)
    arrange = functools.partial(grouped.arrange, num_experts=4)
    layout, slotted = jax.jit(
        lambda chosen: (
            dataclasses.asdict(arrange(chosen, block=2)),
            dataclasses.asdict(arrange(chosen, block=2, capacity=1)),
        )
    )(chosen)
    np.testing.assert_array_equal(layout["sizes"], [2, 0, 4, 0])
    assert layout["used"] == 3
    np.testing.assert_array_equal(layout["owner"][:3], [0, 2, 2])
    np.testing.assert_array_equal(layout["rest"].reshape(-1)[:6], [1, 4, 0, 2, 3, 6])
    assert layout["position"][5] >= 6
    np.testing.assert_array_equal(slotted["slots"], [[1], [6], [0], [6]])
    np.testing.assert_array_equal(slotted["rest"][:2], [[4, 6], [2, 3]])
    np.testing.assert_array_equal(slotted["owner"][:2], [0, 2])
    assert slotted["used"] == 2


def mixture(**fields):
    defaults = {"dim": 6, "num_experts": 4, "hidden_dim": 5}
    return random_module(MoE, **(defaults | fields))


def test_gates_are_the_largest_probabilities():
    layer = mixture()
    x = jax.random.normal(jax.random.key(0), (2, 3, 6))
    logits, gates, chosen = layer.route(x)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    order = np.argsort(-probabilities, axis=-1)[..., :2]
    np.testing.assert_array_equal(chosen, order)
    np.testing.assert_allclose(
        gates, np.take_along_axis(probabilities, order, -1), rtol=1e-6
    )


def test_renormalised_gates_add_to_one():
    layer = mixture(renormalize=True)
    _, gates, _ = layer.route(jax.random.normal(jax.random.key(0), (3, 6)))
    np.testing.assert_allclose(gates.sum(-1), np.ones(3), rtol=1e-6)


def test_equal_logits_go_to_the_first_experts():
    layer = mixture()
    layer.router[...] = jnp.zeros((6, 4))
    logits, gates, chosen = layer.route(jnp.ones((3, 6)))
    np.testing.assert_array_equal(chosen, [[0, 1]] * 3)
    np.testing.assert_allclose(gates, np.full((3, 2), 0.25))
    layer.router[...] = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    both = 0.25 * np.asarray(layer.router[...])[:, :2].sum(axis=1)
    np.testing.assert_allclose(layer.router_embedding(logits)[0], both, rtol=1e-5)


def test_the_router_is_float32_in_a_bfloat16_model():
    layer = mixture(dtype="bfloat16")
    y, intermediates = nnx.eval_shape(
        lambda layer: layer(jnp.ones((1, 2, 6), jnp.bfloat16)), layer
    )
    assert y.dtype == jnp.bfloat16
    assert intermediates["router_logits"].dtype == jnp.float32
    assert intermediates["router_assignments"].dtype == jnp.int32


def test_the_router_learns_from_the_gates():
    layer = mixture(experts_per_token=1)
    x = jax.random.normal(jax.random.key(0), (2, 3, 6))
    graph, params = nnx.split(layer)

    @jax.jit
    def router_gradient(params):
        gradient = jax.grad(lambda p: jnp.sum(nnx.merge(graph, p)(x)[0] ** 2))(params)
        return jnp.max(jnp.abs(gradient["router"][...]))

    assert router_gradient(params) > 0


def test_shared_experts_see_every_token():
    plain, shared = mixture(), mixture(num_shared_experts=2)
    for name in ("router", "gate", "up", "down"):
        getattr(plain, name)[...] = getattr(shared, name)[...]
    assert shared.shared.gate.shape == (6, 10)
    x = jax.random.normal(jax.random.key(0), (2, 3, 6))
    run = jax.jit(lambda layer, x: layer(x)[0])
    np.testing.assert_allclose(
        run(shared, x), run(plain, x) + run(shared.shared, x), atol=1e-6, rtol=1e-6
    )


def test_a_gate_scales_what_shared_experts_give():
    """By 1 / (1 + exp(-x w)), in float64."""
    plain, gated = mixture(), mixture(num_shared_experts=1, shared_gate=True)
    for name in ("router", "gate", "up", "down"):
        getattr(plain, name)[...] = getattr(gated, name)[...]
    x = jax.random.normal(jax.random.key(0), (2, 3, 6))
    weights = np.asarray(gated.shared_gate[...], np.float64)
    share = 1 / (1 + np.exp(-np.asarray(x, np.float64) @ weights))
    expected = plain(x)[0] + share * np.asarray(gated.shared(x)[0])
    np.testing.assert_allclose(gated(x)[0], expected, atol=1e-6, rtol=1e-6)


def biased_reference(x, gates, chosen, weights, clamp):
    """Value by a float64 loop over tokens' choices, as gpt-oss defines it."""
    x, gates, *weights = (np.asarray(a, np.float64) for a in (x, gates, *weights))
    gate, up, down, gate_bias, up_bias, down_bias = weights
    y = np.zeros_like(x)
    for n, j in np.ndindex(*chosen.shape):
        e = int(chosen[n, j])
        if 0 <= e < gate.shape[0]:
            a = np.minimum(x[n] @ gate[e] + gate_bias[e], clamp)
            b = np.clip(x[n] @ up[e] + up_bias[e], -clamp, clamp)
            inner = a / (1 + np.exp(-1.702 * a)) * (b + 1)
            y[n] += gates[n, j] * (inner @ down[e] + down_bias[e])
    return y


@pytest.mark.parametrize("form", [biased_experts.dense, biased_experts.ragged])
def test_biased_experts_are_the_formula_in_float64(form):
    x, gates, chosen, weights, dy = example(*SHAPE)
    chosen = chosen.at[0, 0].set(-1)  # an expert of another device
    draw = np.random.default_rng(1)
    biases = [draw.normal(size=(4, w.shape[-1])).astype(np.float32) for w in weights]
    weights = (*weights, *map(jnp.asarray, biases))
    gating = Gating(ACTIVATIONS["gelu_sigmoid"], clamp=0.5)
    draws = [draw.normal(size=w.shape) for w in weights]

    @jax.jit
    def both(weights):
        y = form(x, gates, chosen, weights, gating)
        return jnp.sum(y * dy), y

    (_, y), grads = jax.value_and_grad(both, has_aux=True)(weights)
    expected = biased_reference(x, gates, chosen, weights, 0.5)
    np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
    # Along a direction, against a difference of the formula.
    ahead, behind = (
        biased_reference(
            *(x, gates, chosen),
            [np.asarray(w) + s * d for w, d in zip(weights, draws, strict=True)],
            0.5,
        )
        for s in (1e-6, -1e-6)
    )
    slope = sum(np.vdot(np.asarray(g), d) for g, d in zip(grads, draws, strict=True))
    expected = np.sum((ahead - behind) * np.asarray(dy)) / 2e-6
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_biases_join_the_router_and_the_experts():
    layer = mixture(biases=True, clamp=7.0, activation="gelu_sigmoid")
    layer.router_bias[...] = jnp.asarray([0.0, 9.0, 0.0, 0.0])
    logits, _, chosen = layer.route(jnp.zeros((3, 6)))
    np.testing.assert_allclose(logits, [[0.0, 9.0, 0.0, 0.0]] * 3)
    assert set(np.asarray(chosen[:, 0])) == {1}
    x = jax.random.normal(jax.random.key(0), (1, 7, 6))
    _, gates, chosen = layer.route(x)
    names = ("gate", "up", "down", "gate_bias", "up_bias", "down_bias")
    weights = [getattr(layer, name)[...] for name in names]
    expected = biased_reference(x[0], gates[0], chosen[0], weights, 7.0)
    y = jax.jit(lambda layer, x: layer(x)[0])(layer, x)
    np.testing.assert_allclose(y[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clamp": 7.0}, "clamp needs biases=True, got 7.0 without"),
        ({"clamp": 0.0, "biases": True}, "clamp must be positive, got 0.0"),
        ({"shared_gate": True}, "shared_gate needs num_shared_experts of at least 1"),
        ({"num_experts": 0}, "num_experts must be positive, got 0"),
        ({"experts_per_token": 5}, r"from 1 to num_experts \(4\), got 5"),
        ({"num_shared_experts": -1}, "must not be negative, got -1"),
        ({"renormalize": True, "experts_per_token": 1}, "renormalize needs"),
        ({"activation": "relu"}, "activation must be one of .* got 'relu'"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        mixture(**fields)


MESH = {"expert": 2, "fsdp": 2, "tensor": 2}
OTHER_MESHES = [
    {"expert": 2},
    {"expert": 4, "data": 2},
    {"expert": 8},
    {"data": 4, "tensor": 2},
]


@functools.cache
def step(**fields):
    """Step of a small mixture: the function, its arguments, its result."""
    mlp = functools.partial(
        MoE, num_experts=8, hidden_dim=8, num_shared_experts=1, **fields
    )
    model = transformer(num_layers=1, mlp=mlp)
    graph, state = nnx.split(model)
    rows = batch([[5, 3], [8], [2, 6], [4]] * 2)

    def loss(params, rows):
        trunk = nnx.merge(graph, params).trunk(rows, capture=MoE.intermediates)
        count = jnp.expand_dims(rows["mask"], 2)
        # Router logits too, as the load balance reads them.
        value = jnp.sum(jnp.sin(trunk.hidden), where=count)
        routed = jnp.tanh(trunk.intermediates["router_logits"])
        value += jnp.sum(routed, where=jnp.expand_dims(count, 3))
        return value, trunk.intermediates["router_assignments"]

    run = jax.value_and_grad(loss, has_aux=True)
    params = nnx.to_pure_dict(state)
    return run, state, params, rows, jax.jit(run)(params, rows)


BIASED = {"biases": True, "clamp": 0.5, "shared_gate": True}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "fields"),
    [(MESH, BIASED), *((sizes, {}) for sizes in (MESH, *OTHER_MESHES))],
    ids=str,
)
def test_experts_over_a_mesh_equal_one_device(sizes, fields, monkeypatch):
    # So that the sorted form is the chosen one, and experts get more than their slots.
    monkeypatch.setattr(moe, "capacity", lambda share: 2)
    run, state, params, rows, expected = step(**fields)
    mesh = mesh_of(**sizes)

    def sharded(params, rows):
        with sharding.use(mesh):
            return run(params, rows)

    placed = jax.device_put(params, sharding.parameter_shardings(state, mesh))
    outputs = jax.jit(sharded)(placed, rows)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, outputs, expected)


def test_too_few_rows_for_the_mesh_are_still_right():
    layer = mixture(dim=8)
    x = jax.random.normal(jax.random.key(0), (3, 2, 8))

    def sharded(x):
        with sharding.use(mesh_of(expert=4)):
            return layer(x)[0]

    alone = jax.jit(lambda x: layer(x)[0])(x)
    np.testing.assert_allclose(jax.jit(sharded)(x), alone, rtol=1e-5, atol=1e-6)
