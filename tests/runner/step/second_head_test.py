"""Dual-head distillation, whole: the textbook's projection in all parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
import models
from losses import LossTerm
from models import sharding
from models.running.state import RUNNING
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.running import places
from runner.step.train_step import gradients

SEED, STEP, ROWS, GHOST = 0, 5, 8, 4
LOSS = losses.OnSecondHead(loss=losses.CrossEntropy())
STUDENT = functools.partial(
    models.SecondHead,
    model=functools.partial(models.ConvNet, num_classes=3, widths=(4,), groups=2),
    ghost=GHOST,
    hidden_dim=6,
    dropout=0.25,
)


def batch():
    draw = np.random.default_rng(0)
    return {
        "images": draw.random((ROWS, 4, 4, 1)).astype(np.float32),
        "targets": draw.integers(0, 3, ROWS).astype(np.int32),
        "mask": np.ones(ROWS, bool),
    }


def made(weight):
    ce = losses.Unopposed(of="kd", of_weight=weight, over="parameters")
    terms = [
        LossTerm(name="ce", loss=losses.CrossEntropy(), weight=ce),
        LossTerm(name="kd", loss=LOSS, weight=weight),
    ]
    return TrainModules(STUDENT, terms, optax.sgd(0.1))


def of_step(weight, *, mesh, microbatches):
    config = runtime.Runtime(
        mesh=mesh, step=runtime.Step(microbatches=microbatches), head=runtime.Head()
    )
    devices, rules = mesh_lib.make(config.mesh), config.mesh.rules
    modules = made(weight)
    objective = Objective(modules, mesh=devices, config=config, seed=SEED)
    state = modules.create(3, devices, rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, rules):
            result = gradients(
                objective,
                state.params,
                state.variables,
                batch,
                jnp.int32(STEP),
                memory=state.memory,
            )
        return result.params["student"], result.running, result.weights["ce"]

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@pytest.mark.slow
def test_the_gradient_is_that_of_the_projection_in_all_parameters_however_cut():
    modules = made(1.0)
    state = jax.jit(modules.initial)(jax.random.key(3))
    key = jax.random.fold_in(jax.random.key(SEED), STEP)
    seeds = jax.random.bits(jax.random.fold_in(key, 1), (ROWS,))
    rows, capture = batch(), frozenset({"second/logits", RUNNING})

    def means(params):
        student = modules.student(params, state.variables["student"])
        trunk = student.trunk({**rows, "row_seed": seeds}, capture=capture)
        both = student.head(trunk.hidden), trunk.intermediates["second/logits"]
        each = [
            optax.softmax_cross_entropy_with_integer_labels(x, rows["targets"]).mean()
            for x in both
        ]
        return jnp.stack(each), trunk.intermediates[RUNNING]

    of_terms, observed = jax.jit(jax.jacrev(means, has_aux=True))(
        state.params["student"]
    )
    leaves, tree = jax.tree.flatten(of_terms)
    ce, kd = np.concatenate(
        [np.asarray(x, np.float64).reshape(2, -1) for x in leaves], axis=1
    )
    weight = -0.5 * (ce @ ce) / (ce @ kd)  # against the labels, whatever the draws
    other = weight * kd
    expected = ce + other - (other @ ce) / (ce @ ce) * ce

    cuts = [(runtime.Mesh(data=1, tensor=8), 1), (runtime.Mesh(data=4, tensor=2), 2)]
    for mesh, microbatches in cuts:
        params, running, balance = of_step(
            float(weight), mesh=mesh, microbatches=microbatches
        )
        flat = np.concatenate([x.ravel() for x in tree.flatten_up_to(params)])
        scale = np.abs(expected).max()
        np.testing.assert_allclose(flat / scale, expected / scale, atol=1e-5)
        np.testing.assert_allclose(running, observed, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(balance, 1.5, rtol=1e-3)
    assert len(places(modules.abstract_student())) == 1
