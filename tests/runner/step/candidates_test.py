"""One candidate of each row, drawn by its loss: the same however a batch is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import MatrixFactorization, sharding
from runner import runtime
from runner.data import SyntheticInteractions
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients

DATA = SyntheticInteractions(num_users=6, num_items=16, per_user=5, rows_per_user=2)
STUDENT = functools.partial(MatrixFactorization, num_users=6, num_items=16, dim=4)


def of_step(loss, batch, *, data=1, microbatches=1, step=2):
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=data), step=runtime.Step(microbatches=microbatches)
    )
    mesh = mesh_lib.over(config.mesh, jax.devices()[:data])
    terms = [LossTerm(name="pairs", loss=loss)]
    modules = TrainModules(STUDENT, terms, optax.sgd(0.1))
    objective = Objective(modules, mesh=mesh, config=config, seed=0)
    state = modules.create(0, mesh, config.mesh.rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(mesh, config.mesh.rules):
            results = gradients(
                objective, state.params, state.variables, batch, jnp.int32(step)
            )
        return results.params["student"], results.terms["pairs"].total

    placed = jax.device_put(batch, mesh_lib.batch_sharding(mesh))
    return jax.device_get((compute(state, placed), state.params["student"]))


@pytest.mark.slow
def test_draws_are_the_same_however_a_batch_is_cut_and_leave_bpr_of_one_pair_a_row():
    batch = DATA.load().rows(np.arange(8))
    loss = losses.OneCandidate(loss=losses.BPR(), temperature=0.05)
    (slopes, total), params = of_step(loss, batch)
    for cut in ({"microbatches": 4}, {"data": 4, "microbatches": 2}):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
            of_step(loss, batch, **cut)[0],
            (slopes, total),
        )

    # In float64: some candidate of each row has all of its gradient, alone.
    p, q = (np.asarray(params[name], np.float64) for name in ("users", "items"))
    d_users = np.zeros((8, 5, 4))
    for row in range(8):
        u, other = p[batch["users"][row, 0]], q[batch["negatives"][row, 0]]
        for at, item in enumerate(batch["targets"][row]):
            margin = u @ (q[item] - other)
            d_users[row, at] = -(q[item] - other) / (1 + np.exp(margin)) / 8
    of_users = [batch["users"][:, 0] == user for user in range(6)]
    for user, rows in enumerate(of_users):
        if rows.sum() == 1:
            apart = np.abs(d_users[rows][0] - slopes["users"][user]).max(axis=1)
            assert apart.min() < 1e-6
    assert sum(rows.sum() == 1 for rows in of_users) == 4
