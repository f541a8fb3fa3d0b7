"""A step over series: the objective by hand, and the same however it is cut."""

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
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients

SEED, STEP, ROWS, MOMENTS, CHANNELS = 0, 5, 8, 6, 3
STUDENT = functools.partial(
    models.Views,
    model=functools.partial(
        models.Imputer,
        channels=CHANNELS,
        num_steps=MOMENTS,
        latent_dim=4,
        dim=8,
        num_layers=1,
        num_heads=2,
    ),
    views={"part": models.Hidden(share=0.4)},
)
WEIGHTS = {"observed": 1.0, "hidden": 2.0, "prior": 0.1}


def modules():
    distance = functools.partial(
        losses.ValueDistance, view="part", power=2, path="drawn/logits"
    )
    kinds = {
        "observed": distance(over="observed"),
        "hidden": distance(over="hidden"),
        "prior": losses.PriorKL(view="part"),
    }
    terms = [LossTerm(name=n, loss=x, weight=WEIGHTS[n]) for n, x in kinds.items()]
    return TrainModules(STUDENT, terms, optax.sgd(0.1))


def batch():
    draw = np.random.default_rng(0)
    shape = (ROWS, MOMENTS, CHANNELS)
    observed = draw.random(shape) < 0.7
    observed[3] = False  # a row of which nothing is there
    return {
        "values": draw.normal(size=shape).astype(np.float32),
        "observed": observed,
        "hidden": ~observed,
        "targets": np.zeros(shape[:2], np.int32),
        "mask": np.ones(shape[:2], bool),
        "segment_ids": np.ones(shape[:2], np.int32),
    }


def of_step(*, mesh, microbatches):
    config = runtime.Runtime(
        mesh=mesh, step=runtime.Step(microbatches=microbatches), head=runtime.Head()
    )
    devices, rules = mesh_lib.make(config.mesh), config.mesh.rules
    made = modules()
    objective = Objective(made, mesh=devices, config=config, seed=SEED)
    state = made.create(3, devices, rules)

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
        return result.params["student"], result.total

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@pytest.mark.slow
def test_a_step_is_the_written_out_objective_however_it_is_cut():
    made, rows = modules(), batch()
    state = jax.jit(made.initial)(jax.random.key(3))
    key = jax.random.fold_in(jax.random.key(SEED), STEP)
    seeds = jax.random.bits(jax.random.fold_in(key, 1), (ROWS,))
    paths = ("drawn/logits", "latent/mean", "latent/log_variance", "observed")

    def objective(params):
        student = made.student(params, state.variables["student"])
        capture = frozenset(f"view/part/{path}" for path in paths)
        trunk = student.trunk({**rows, "row_seed": seeds}, capture=capture)
        x, mean, log_variance, left = (
            trunk.intermediates[f"view/part/{path}"] for path in paths
        )
        squared = jnp.square(x - rows["values"])
        hidden = rows["observed"] & ~left
        kl = jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1.0
        parts = {
            "observed": jnp.mean(squared, where=left),
            "hidden": jnp.mean(squared, where=hidden),
            "prior": 0.5 * jnp.sum(kl) / (ROWS * MOMENTS),
        }
        return sum(WEIGHTS[name] * part for name, part in parts.items())

    expected, of_params = jax.jit(jax.value_and_grad(objective))(
        state.params["student"]
    )
    for mesh, microbatches in (
        (runtime.Mesh(data=1, tensor=8), 1),
        (runtime.Mesh(data=4, tensor=2), 2),
    ):
        params, total = of_step(mesh=mesh, microbatches=microbatches)
        np.testing.assert_allclose(total, expected, rtol=1e-5)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=3e-6),
            params,
            jax.device_get(of_params),
        )
