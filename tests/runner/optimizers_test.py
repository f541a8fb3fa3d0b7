"""Optimisers in float32, and Muon over the matrices of a model's layers."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax.contrib import muon as optax_muon

import losses
from losses import LossTerm
from models import MoE, Transformer
from models.layers import matrix_axes
from runner import optimizers, runtime
from runner.checkpoint import tree_paths
from runner.checkpoint.checkpoints import Checkpoints
from runner.checkpoint.manifest import Leaf
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.teachers import EMATeacher

pytestmark = pytest.mark.own_initializer

RATE, BETA2, DECAY = 3e-4, 0.999, 0.1
TERMS = (LossTerm(name="ce", loss=losses.CrossEntropy()),)


def bfloat16(*values):
    return {"w": jnp.array([values], jnp.bfloat16)}


def run(optimizer, params, grads) -> tuple[Any, Any]:
    """Return the parameters and the state after a step for each gradient."""
    state = optimizer.init(params)
    for grad in grads:
        updates, state = optimizer.update(grad, state, params)
        params = optimizers.apply_updates(params, updates)
    return params, state


def test_constants_and_moments_are_float32_for_bfloat16_parameters():
    optimizer = optimizers.adamw(RATE, b2=BETA2)
    params, state = run(optimizer, bfloat16(1.0, -2.0), [bfloat16(0.5, 0.25)])
    assert params["w"].dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(params["w"], np.float32)).all()
    constants = optax.tree.get(state, "hyperparams")
    exact = {"b2": BETA2, "weight_decay": DECAY, "learning_rate": RATE}
    for name, value in exact.items():
        assert constants[name].dtype == jnp.float32
        np.testing.assert_allclose(constants[name], value, rtol=1e-7)
    for name in ("mu", "nu"):
        assert optax.tree.get(state, name)["w"].dtype == jnp.float32


@pytest.mark.parametrize(
    "optimizer", [optax.adamw(RATE), optax.adam(RATE), optimizers.adamw(RATE)]
)
def test_any_optimiser_of_a_run_updates_as_in_float32(optimizer):
    grads = [bfloat16(0.5, 0.01 * i) for i in range(5)]
    inside = optimizers.in_float32(optimizer)
    params = bfloat16(1.0, -2.0)
    state, wide = inside.init(params), optimizer.init(optimizers.float32(params))
    widened = optimizers.float32(params)
    for grad in grads:
        updates, state = inside.update(grad, state, params)
        with jax.numpy_dtype_promotion("standard"):
            expected, wide = optimizer.update(optimizers.float32(grad), wide, widened)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_the_second_moment_does_not_stick():
    """Under a constant gradient of 1 it is `1 - b2^n`; bfloat16 stops at 0.5."""
    optimizer = optimizers.in_float32(optax.scale_by_adam(b2=BETA2))
    params, grad = bfloat16(1.0, 1.0), bfloat16(1.0, 1.0)

    def step(_, state):
        return optimizer.update(grad, state, params)[1]

    state = jax.lax.fori_loop(0, 3000, step, optimizer.init(params))
    nu = optax.tree.get(state, "nu")["w"]
    np.testing.assert_allclose(nu, 1 - BETA2**3000, rtol=1e-3)


def test_small_updates_add_up_in_a_master_copy():
    """A step of 1e-3 is below half a bit of a bfloat16 1.0, which is 1/256."""
    sgd = optax.sgd(1e-3)
    grads = [bfloat16(-1.0, 1.0)] * 64
    lost, _ = run(optimizers.in_float32(sgd), bfloat16(1.0, 1.0), grads)
    np.testing.assert_array_equal(np.float32(lost["w"]), [[1.0, 1.0]])
    params, state = run(optimizers.float32_master(sgd), bfloat16(1.0, 1.0), grads)
    exact = jnp.float32([[1.064, 0.936]])
    np.testing.assert_allclose(state.master["w"], exact, rtol=1e-5)
    np.testing.assert_array_equal(params["w"], exact.astype(jnp.bfloat16))


def test_an_average_does_not_stand_still():
    """300 steps from 1.0 towards 1.5 at 0.999: `1.5 - 0.5 · 0.999^300`."""
    teacher, student = EMATeacher(decay=0.999), {"w": jnp.bfloat16(1.5)}
    ema = {"w": jnp.bfloat16(1.0)}
    for step in range(300):
        # Late steps, whose decay no longer rises.
        ema = teacher.update_state(ema, student, jnp.int32(100_000 + step))
    np.testing.assert_allclose(ema["w"], 1.5 - 0.5 * 0.999**300, rtol=1e-5)


def modules(optimizer, *, teacher=None, **student):
    student = {"vocab_size": 32, "dim": 16, "num_layers": 2, "num_heads": 2} | student
    build = functools.partial(Transformer, **student)
    init = (teacher and {"init_teacher": teacher.init_state}) or {}
    return TrainModules(build, TERMS, optimizer, **init)


def bfloat16_state():
    optimizer = optimizers.float32_master(optimizers.muon(RATE))
    made = modules(optimizer, teacher=EMATeacher(), param_dtype="bfloat16")
    config = runtime.Mesh(data=1, fsdp=4, tensor=2)
    return made.abstract(mesh_lib.make(config), config.rules)


def test_all_that_runs_beside_bfloat16_parameters_is_float32():
    state = bfloat16_state()
    assert {x.dtype.name for x in jax.tree.leaves(state.params)} == {"bfloat16"}
    beside = jax.tree.leaves((state.opt_state, state.teacher, state.memory))
    assert {x.dtype.name for x in beside} == {"float32", "int32"}


def test_a_checkpoint_holds_masters_and_moments_bit_for_bit(tmp_path):
    optimizer = optimizers.float32_master(optimizers.muon(RATE))
    state = modules(optimizer, num_layers=1, param_dtype="bfloat16").initial(
        jax.random.key(0)
    )
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state)
        restored = checkpoints.restore(1, abstract)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_optimiser_state_of_an_older_version_is_refused_in_one_line():
    saved = {"opt_state/mu/w": Leaf(shape=(2,), dtype="bfloat16")}
    wanted = {"opt_state/mu/w": Leaf(shape=(2,), dtype="float32")}
    with pytest.raises(UserError, match=r"an older version kept it as bfloat16"):
        tree_paths.compare(saved, wanted, where="checkpoint of step 1", whole=True)


def test_masters_and_momenta_are_sharded_like_their_parameters():
    state = bfloat16_state()
    query = state.params["student"]["blocks"]["0"]["attention"]["query"]
    assert any(query.sharding.spec)
    same = [
        x
        for path, x in jax.tree_util.tree_leaves_with_path(state.opt_state)
        if jax.tree_util.keystr(path).endswith("['0']['attention']['query']")
    ]
    assert len(same) == 2  # the master copy and the momentum
    assert {x.sharding.spec for x in same} == {query.sharding.spec}


MODELS = {
    "separate": {},
    "all": {
        "layers": "stacked",
        "attention_bias": True,
        "qk_norm": True,
        "mlp": functools.partial(MoE, num_experts=3, num_shared_experts=1),
    },
}


def fresh(name):
    """Return parameters of a model, and gradients for them."""
    params = modules(optax.sgd(1.0), **MODELS[name]).initial(jax.random.key(0)).params
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape)), params)
    return params["student"], grads["student"]


def alone(axes, x, grad):
    """Update each matrix of a parameter on its own, by optax 0.2.8's Muon."""
    optimizer = optax_muon(RATE, weight_decay=DECAY, consistent_rms=0.2, eps=1e-8)

    @jax.jit
    def update(x, grad):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(grad, optimizer.init(x), x)[0]

    rows, columns = (math.prod(x.shape[i] for i in side) for side in axes)
    flat = (-1, rows, columns)
    each = zip(x.reshape(flat), grad.reshape(flat), strict=True)
    return jnp.stack([update(*one) for one in each]).reshape(x.shape)


def first_update(optimizer, params, grads):
    return jax.jit(lambda p, g: optimizer.update(g, optimizer.init(p), p)[0])(
        params, grads
    )


@pytest.mark.slow  # compiles Newton-Schulz for every shape of matrix
def test_muon_updates_each_matrix_as_optax_does_alone_and_all_else_as_adamw():
    params, grads = fresh("all")
    updates = first_update(optimizers.muon(RATE, max_norm=1e9), params, grads)
    adamw = first_update(optimizers.adamw(RATE, max_norm=1e9), params, grads)
    sides = matrix_axes(params)
    for (path, axes), update, by_adamw, x, grad in zip(
        jax.tree_util.tree_leaves_with_path(sides, is_leaf=optimizers.is_axes),
        *map(jax.tree.leaves, (updates, adamw, params, grads)),
        strict=True,
    ):
        expected = by_adamw if axes is None else alone(axes, x, grad)
        np.testing.assert_allclose(
            update, expected, rtol=2e-4, atol=1e-8, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize("name", MODELS)
def test_the_sides_of_a_matrix_are_those_its_parameter_names(name):
    """Inputs of a matrix and its outputs, by the logical axes of the model."""
    model = modules(optax.sgd(1.0), **MODELS[name]).abstract_student()
    into = {"query", "key", "value", "gate", "up", "router"}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        tree = variable.get_value()
        for key in reversed(path):
            tree = {str(key): tree}
        (axes,) = jax.tree.leaves(matrix_axes(tree), is_leaf=optimizers.is_axes)
        names = variable.get_metadata()["axes"]
        if axes is None:
            assert "embed" not in names or "vocab" in names, path
            continue
        sides = axes.inputs if path[-1] in into else axes.outputs
        assert [names[axis] for axis in sides] == ["embed"], path
        rest = set(range(-len(names), 0)) - set(axes.inputs) - set(axes.outputs)
        assert {names[axis] for axis in rest} <= {"layers", "expert"}, path


def test_muon_without_matrices_of_blocks_is_refused():
    with pytest.raises(UserError, match="muon finds no matrix of a block"):
        optimizers.muon(RATE).init({"w": jnp.ones((2, 2))})


def test_biases_of_heads_do_not_decay():
    params, grads = fresh("all")
    nothing = jax.tree.map(jnp.zeros_like, grads)
    ones = jax.tree.map(jnp.ones_like, params)
    updates = first_update(optimizers.adamw(RATE), ones, nothing)
    attention = updates["blocks"]["stacked"]["attention"]
    assert not np.any(attention["query_bias"])
    np.testing.assert_allclose(attention["query"], -RATE * DECAY, rtol=1e-6)
