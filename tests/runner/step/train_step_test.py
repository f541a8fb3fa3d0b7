"""The compiled step: what it logs, what it costs, what it leaves behind."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer
from runner import optimizers, runtime
from runner.head import flops
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.step.metrics import fetch
from tests.heads import in_blocks, largest_array

BATCH, LENGTH, VOCABULARY, DIM = 16, 8, 512, 16

TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-3),
)


ADAMW = optimizers.adamw(optax.linear_schedule(1e-2, 0.0, 100))


@functools.cache
def program(optimizer, vocabulary, microbatches, head):
    """A step, its modules and its mesh: what it compiles is compiled once."""
    student = functools.partial(
        Transformer, vocab_size=vocabulary, dim=DIM, num_layers=1, num_heads=2
    )
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=8),
        step=runtime.Step(microbatches=microbatches),
        head=head,
    )
    mesh = mesh_lib.make(config.mesh)
    modules = TrainModules(student, TERMS, optimizer)
    return CompiledStep(modules, mesh=mesh, config=config, seed=0), modules, config


def make(*, optimizer=ADAMW, vocabulary=VOCABULARY, microbatches=1, head=None):
    """A step, and a fresh state that it may consume."""
    head = head or runtime.Head()
    made, modules, config = program(optimizer, vocabulary, microbatches, head)
    state = modules.create(0, made.mesh, config.mesh.rules)
    return made, jax.tree.leaves(state), state


def batch(made, *, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32)
    rows = {
        "tokens": tokens,
        "targets": np.roll(tokens, -1, axis=1),
        "mask": rng.random((BATCH, LENGTH)) < rng.random((BATCH, 1)),
        "segment_ids": np.ones((BATCH, LENGTH), np.int32),
        "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1)),
        "index": np.arange(BATCH, dtype=np.int32),
    }
    return jax.device_put(rows, mesh_lib.batch_sharding(made.mesh))


def test_it_learns_a_batch_by_heart():
    made, leaves, _ = make()
    rows = batch(made)
    losses_seen = []
    for _ in range(30):
        leaves, metrics = made(leaves, rows)
        losses_seen.append(fetch(metrics)["learning/ce"])
    assert losses_seen[0] == pytest.approx(np.log(VOCABULARY), rel=0.1)
    assert losses_seen[-1] < 0.5 * losses_seen[0]


def test_the_log_holds_every_term_its_weight_and_the_optimiser():
    made, leaves, state = make()
    norm = float(optax.tree.norm(state.params))
    rows = batch(made)
    leaves, metrics = made(leaves, rows)
    _, metrics = made(leaves, rows)
    found = fetch(metrics)
    total = found["learning/ce"] + 1e-3 * found["learning/z_loss"]
    assert found["learning/total"] == pytest.approx(total, rel=1e-5)
    assert found["weights/ce"] == 1.0
    assert found["weights/z_loss"] == pytest.approx(1e-3)
    assert found["optimizer/learning_rate"] == pytest.approx(0.99e-2)
    assert found["optimizer/parameter_norm"] == pytest.approx(norm, rel=0.05)
    assert 0 < found["optimizer/update_ratio"] < 0.1
    assert found["optimizer/gradient_norm"] > 0


def test_metrics_do_not_move_with_accumulation():
    made, leaves, _ = make(microbatches=2)
    _, metrics = made(leaves, batch(made))
    once, leaves, _ = make()
    _, expected = once(leaves, batch(once))
    expected = fetch(expected)
    for name, value in fetch(metrics).items():
        assert value == pytest.approx(expected[name], rel=1e-5), name


def test_a_batch_without_targets_moves_nothing_but_decay():
    made, leaves, state = make(optimizer=optax.sgd(1.0))
    before = jax.device_get(state.params)
    rows = batch(made)
    rows["mask"] = jnp.zeros_like(rows["mask"])
    leaves, metrics = made(leaves, rows)
    found = fetch(metrics)
    assert "learning/ce" not in found
    assert found["learning/total"] == 0.0
    after = jax.device_get(made.unflatten(leaves).params)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_it_compiles_once():
    made, leaves, _ = make()
    for seed in range(3):
        leaves, _ = made(leaves, batch(made, seed=seed))
    compiled: Any = made.compiled
    assert compiled._cache_size() == 1


def test_the_head_costs_three_matmuls():
    """`6 N D V` FLOPs: what another V costs, everything else being equal."""
    costs = []
    for vocabulary in (VOCABULARY, 2 * VOCABULARY):
        made, leaves, _ = make(head=in_blocks(4, vocabulary), vocabulary=vocabulary)
        costs.append(flops.matmul_flops(made.compiled, leaves, batch(made), {}))
    assert costs[1] - costs[0] == 6 * BATCH * LENGTH * DIM * VOCABULARY


def test_no_array_of_tokens_by_vocabulary_exists():
    made, leaves, _ = make(head=in_blocks(4, VOCABULARY))
    jaxpr = jax.make_jaxpr(made.compiled)(leaves, batch(made), {}).jaxpr
    weights = DIM * VOCABULARY
    assert weights < BATCH * LENGTH * VOCABULARY
    assert largest_array(jaxpr) == weights
