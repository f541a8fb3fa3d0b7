"""Slopes of the logits against differences of whole forward passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import MoE, Transformer, sharding
from runner import runtime
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.logit_slopes import LogitSlopes
from runner.step.objective import Objective
from tests.heads import in_blocks
from tests.runner.step.inputs import BATCH, VOCABULARY, ragged

TERMS = [LossTerm(name="ce", loss=losses.CrossEntropy())]
DENSE = functools.partial(
    Transformer, vocab_size=VOCABULARY, dim=16, num_layers=1, num_heads=2, tie_head=True
)
WIDTH = 2e-4  # of the differences, in the weights


def spread(slopes):
    return jnp.max(slopes, axis=-1) - jnp.min(slopes, axis=-1)


class Run:
    """A student at its start, a direction, and its slopes on some devices."""

    def __init__(self, student, *, rows=None, **mesh):
        self.modules = TrainModules(student, TERMS, optax.sgd(0.1))
        config = runtime.Runtime(
            mesh=runtime.Mesh(**mesh), head=in_blocks(5, VOCABULARY, planes=4)
        )
        self.mesh, self.rules = mesh_lib.make(config.mesh), config.mesh.rules
        if not mesh:
            self.mesh = mesh_lib.over(config.mesh, jax.devices()[:1])
        self.objective = Objective(self.modules, mesh=self.mesh, config=config, seed=0)
        self.state = self.modules.create(3, self.mesh, self.rules)
        draw = np.random.default_rng(4)
        self.direction = jax.tree.map(
            lambda x: jnp.asarray(draw.normal(size=x.shape).astype(x.dtype)),
            self.state.params["student"],
        )
        self.rows = rows

    def largest(self):
        @jax.jit
        def compute(state, direction, batch):
            with sharding.use(self.mesh, self.rules):
                slopes = LogitSlopes(self.objective, state, batch)
                return slopes.largest(direction, spread, rows=self.rows)

        placed = jax.device_put(ragged(), mesh_lib.batch_sharding(self.mesh))
        return float(compute(self.state, self.direction, placed))

    def by_differences(self):
        """`max |z(θ + hv) - z(θ - hv)| / 2h` of the tokens that count."""
        rows = ragged()
        params, variables = self.state.params["student"], self.state.variables

        @jax.jit
        def logits(scale):
            moved = jax.tree.map(lambda x, v: x + scale * v, params, self.direction)
            student = self.modules.student(moved, variables["student"])
            return student.head(student.trunk(rows, capture=frozenset()).hidden)

        ahead, behind = (np.asarray(logits(h), np.float64) for h in (WIDTH, -WIDTH))
        spreads = np.ptp(ahead - behind, axis=-1) / (2 * WIDTH)
        return np.max(np.where(rows["mask"], spreads, 0.0), axis=1)


def test_the_largest_slope_is_that_of_differences():
    run = Run(DENSE)
    np.testing.assert_allclose(run.largest(), run.by_differences().max(), rtol=5e-3)


def test_rows_are_thinned_out_evenly():
    run = Run(DENSE, rows=2)
    expected = run.by_differences()
    np.testing.assert_allclose(run.largest(), expected[[0, 4]].max(), rtol=5e-3)
    assert expected[[0, 4]].max() < 0.999 * expected.max()


@pytest.mark.slow
def test_experts_and_devices_have_the_same_slopes():
    # All experts for each token: a choice that changes between the sides is no slope.
    mlp = functools.partial(MoE, num_experts=2, experts_per_token=2, hidden_dim=16)
    student = functools.partial(DENSE, mlp=mlp)
    one, many = Run(student), Run(student, data=2, fsdp=2, tensor=2)
    np.testing.assert_allclose(one.largest(), many.largest(), rtol=2e-5)
    np.testing.assert_allclose(one.largest(), one.by_differences().max(), rtol=5e-3)


def test_rows_that_do_not_divide_are_refused():
    run = Run(DENSE, rows=3)
    with pytest.raises(UserError, match=f"rows: 3 of a batch of {BATCH} over 1 dev"):
        run.largest()
