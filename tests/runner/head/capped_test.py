"""A head whose gradient needs its logits: soft-capped, tied, over ragged tiles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from tests.heads import in_blocks, in_tiles
from tests.runner.head.plans import head_plan

VOCABULARY, CAP, ROWS, LENGTH = 50, 5.0, 4, 9
TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="entropy", loss=losses.ConfidencePenalty(), weight=0.1),
)
STUDENT = functools.partial(
    Transformer,
    vocab_size=VOCABULARY,
    dim=16,
    num_layers=1,
    num_heads=2,
    tie_head=True,
    logit_soft_cap=CAP,
)


@functools.cache
def modules():
    return TrainModules(STUDENT, TERMS, optax.identity())


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
    return {
        "tokens": tokens,
        "targets": np.roll(tokens, -1, axis=1),
        "mask": rng.random((ROWS, LENGTH)) < 0.7,
        "segment_ids": np.ones((ROWS, LENGTH), np.int32),
        "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)),
    }


def gradients(head):
    config = runtime.Runtime(mesh=runtime.Mesh(data=2, tensor=4), head=head)
    mesh = mesh_lib.make(config.mesh)
    objective = Objective(modules(), mesh=mesh, config=config, seed=0)
    state = modules().create(0, mesh, config.mesh.rules)

    @jax.jit
    def run(state, batch):
        with sharding.use(mesh, config.mesh.rules):
            found = step_gradients(
                objective, state.params, state.variables, batch, jnp.int32(0)
            )
        return found.total, found.params["student"]

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(mesh))
    plan = head_plan(objective, mesh, state, placed)
    return jax.device_get(run(state, placed)), plan


@functools.cache
def expected():
    """By plain autodiff of the whole."""
    state = jax.jit(modules().initial)(jax.random.key(0))
    mask = batch()["mask"].astype(np.float32)

    def total(params):
        student = modules().student(params, state.variables["student"])
        logits = student.head(student.trunk(batch()).hidden)
        log_q = jax.nn.log_softmax(logits)
        targets = batch()["targets"]
        ce = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        values = ce + 0.1 * jnp.sum(jnp.exp(log_q) * log_q, axis=-1)
        return jnp.sum(values * mask) / jnp.sum(mask)

    return jax.device_get(jax.jit(jax.value_and_grad(total))(state.params["student"]))


CUTS = {
    "fast": (in_blocks(5, VOCABULARY, planes=3), False),
    "lean": (in_tiles(7), True),
}


@pytest.mark.parametrize(("head", "by_sums"), CUTS.values(), ids=CUTS)
def test_it_runs_by_rows_or_makes_its_logits_twice(head, by_sums):
    found, planned = gradients(head)
    assert planned is not None
    assert planned.by_sums == by_sums
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6),
        found,
        expected(),
    )
