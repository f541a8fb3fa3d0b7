"""Balances and reweightings in a step: exact however the batch is cut, and kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import Group, LossTerm, MatchGradient, MatchValue, Uncertainty
from models import Transformer
from runner import runtime
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.step.metrics import fetch
from runner.step.requirements import check_balances, check_tables
from tests.cases import cases
from tests.heads import in_blocks, in_tiles

STUDENT = functools.partial(
    Transformer, vocab_size=37, dim=16, num_layers=1, num_heads=2
)
ITEMS = (
    LossTerm(
        name="ce",
        loss=losses.CrossEntropy(),
        token_weight=losses.LearningProgress(num_rows=8, sharpness=3.0),
    ),
    Group(
        name="calm",
        weight=MatchValue(to="ce", scale=0.1, decay=0.5, cap=10.0),
        terms=[
            LossTerm(name="z_loss", loss=losses.ZLoss(), weight=0.1),
            LossTerm(
                name="confidence",
                loss=losses.SmoothedCrossEntropy(epsilon=0.2),
                weight=MatchGradient(to="z_loss", decay=0.5),
                token_weight=losses.RelativeLoss(),
            ),
        ],
    ),
    LossTerm(name="learned", loss=losses.CrossEntropy(), weight=Uncertainty()),
)


CUTS = {
    "whole": {},
    "microbatches": {"microbatches": 2},
    "blocks": {"head": in_blocks(7, 37)},
    "tiles": {"head": in_tiles(16)},
    "8": {"mesh": runtime.Mesh(data=8)},
    "2x2x2, microbatches": {
        "mesh": runtime.Mesh(data=2, fsdp=2, tensor=2),
        "microbatches": 2,
    },
}


@functools.cache
def compiled(cut):
    """The step of a cut, and a fresh state."""
    parts = {"mesh": runtime.Mesh(data=4, tensor=2), "microbatches": 1} | CUTS[cut]
    config = runtime.Runtime(
        mesh=parts["mesh"],
        step=runtime.Step(microbatches=parts["microbatches"]),
        head=parts.get("head", runtime.Head()),
    )
    devices = mesh_lib.make(config.mesh)
    modules = TrainModules(STUDENT, ITEMS, optax.sgd(0.5))
    step = CompiledStep(modules, mesh=devices, config=config, seed=0)
    return step, modules.create(3, devices, config.mesh.rules)


def run(batch, cut="whole", *, steps=3, state=None):
    """The state and the metrics after some steps on one batch."""
    step, fresh = compiled(cut)
    leaves = jax.tree.leaves(jax.tree.map(jnp.copy, state or fresh))
    placed = jax.device_put(batch, mesh_lib.batch_sharding(step.mesh))
    for _ in range(steps):
        leaves, metrics = step(leaves, placed)
    return step.unflatten(leaves), fetch(metrics)


@pytest.fixture(scope="module")
def whole(batch):
    return run(batch)


@pytest.fixture(scope="module")
def first(batch):
    return run(batch, steps=1)


@pytest.mark.parametrize(
    "cut",
    cases({cut: cut for cut in CUTS if cut != "whole"}, fast=("2x2x2, microbatches",)),
)
def test_a_step_is_the_same_however_the_batch_is_cut(batch, whole, cut):
    # dear: three steps of two programs, gradients of every term in each.
    state, metrics = run(batch, cut)
    expected, expected_metrics = jax.device_get(whole)
    for found, wanted in zip(
        jax.tree.leaves(jax.device_get(state)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-6)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, err_msg=name)


def test_the_log_adds_up(whole):
    _, metrics = whole
    top = sum(metrics[f"contributions/{n}"] for n in ("ce", "calm", "learned"))
    state, _ = whole
    # The penalty was that of the state before the step.
    assert abs(metrics["learning/total"] - top) < 1.0
    shares = [abs(metrics[f"shares/{n}"]) for n in ("ce", "calm", "learned")]
    np.testing.assert_allclose(sum(shares), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        metrics["contributions/calm"],
        metrics["weights/calm"] * metrics["learning/calm"],
        rtol=1e-5,
    )
    assert set(state.memory["weights"]) == {"calm", "confidence", "learned"}
    assert metrics["token_weights/ce"] > 0.0


def test_a_matched_group_contributes_what_it_follows_times_the_scale(first):
    _, metrics = first
    np.testing.assert_allclose(
        metrics["contributions/calm"], 0.1 * metrics["contributions/ce"], rtol=1e-5
    )


def test_going_on_from_a_state_is_bit_for_bit_the_whole_run(batch, whole, first):
    half, _ = first
    rest, _ = run(batch, steps=2, state=half)
    for found, wanted in zip(
        jax.tree.leaves(rest), jax.tree.leaves(whole[0]), strict=True
    ):
        assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


def test_a_learned_weight_follows_its_gradient(first):
    state, metrics = first
    learned = state.params["weights"]["learned"]["log_variance"]
    expected = -0.5 * (0.5 - metrics["learning/learned"])
    np.testing.assert_allclose(learned, expected, rtol=1e-5)


def test_a_balance_that_follows_nothing_is_refused():
    term = LossTerm(name="kd", loss=losses.CrossEntropy(), weight=MatchValue(to="hrad"))
    hard = LossTerm(name="hard", loss=losses.CrossEntropy())
    with pytest.raises(UserError, match=r"follows the term 'hrad'.*'hard'"):
        check_balances([hard, term])


def test_a_table_of_another_length_is_refused():
    with pytest.raises(UserError, match="num_rows=8, and the data has 9 rows"):
        check_tables([ITEMS[0]], 9)
