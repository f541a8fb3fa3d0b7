"""The key that a loss may draw with: a function of the seed and the step."""

import functools

import jax
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from tests.runner.step.inputs import VOCABULARY

STUDENT = functools.partial(
    Transformer, vocab_size=VOCABULARY, dim=8, num_layers=1, num_heads=2
)


class Draw(losses.Loss):
    """A uniform number for each token."""

    needs = frozenset()

    def __call__(self, outputs):
        return jax.random.uniform(outputs.key, outputs.batch["targets"].shape)


def draws(batch, *, seed, steps):
    """The mean draw of each step."""
    config = runtime.Runtime(mesh=runtime.Mesh(data=1, tensor=8))
    mesh = mesh_lib.make(config.mesh)
    terms = [LossTerm(name="draw", loss=Draw())]
    modules = TrainModules(STUDENT, terms, optax.identity())
    step = CompiledStep(modules, mesh=mesh, config=config, seed=seed)
    leaves = jax.tree.leaves(modules.create(0, mesh, config.mesh.rules))
    placed = jax.device_put(batch, mesh_lib.batch_sharding(mesh))
    values = []
    for _ in range(steps):
        leaves, metrics = step(leaves, placed)
        values.append(float(metrics["learning/draw"].compute()))
    return values


def test_every_step_and_every_seed_has_a_key_of_its_own(batch):
    first, second = draws(batch, seed=0, steps=2)
    (other,) = draws(batch, seed=1, steps=1)
    assert len({first, second, other}) == 3
    assert draws(batch, seed=0, steps=1) == [first]
    for value in (first, second, other):
        assert value == pytest.approx(0.5, abs=0.25)
