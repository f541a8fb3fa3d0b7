"""Training with stacked layers: the same run as with separate ones, and it resumes."""

import dataclasses
import functools

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
import models
from losses import LossTerm
from models import pretrained
from runner import optimizers, runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.state.trainable import TrainModules
from runner.step.metrics import fetch
from runner.teachers import EMATeacher, OnlineTeacher
from runner.weights.published import PublishedWeights
from tests.models.pretrained.tables import FIXTURES
from tests.models.states import stacked_values
from tests.runner.states import assert_bits
from tests.runner.teachers import examples

FORMS = ("separate", "stacked")
MESHES = {
    "2x2x2": runtime.Mesh(data=2, fsdp=2, tensor=2),
    "expert": runtime.Mesh(fsdp=2, tensor=2, expert=2),
}


class Features(losses.Loss):
    """Reads one layer of the student, and another of its teacher."""

    needs = frozenset({"hidden/1", "teacher/hidden/0"})

    def __call__(self, outputs):
        theirs = outputs.teacher.intermediates["hidden/0"]
        return jnp.mean(jnp.square(outputs.intermediates["hidden/1"] - theirs), -1)


TERMS = [
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="load_balance", loss=losses.LoadBalance(), weight=0.1),
    LossTerm(name="kd", loss=losses.ForwardKL(), weight=0.5),
    LossTerm(name="features", loss=Features()),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return examples.source(tmp_path_factory.mktemp("text"))


def setup(corpus, layers, *, mesh="2x2x2"):
    """A mixture that learns from labels and its own average, in two microbatches."""
    student = fdl.copy_with(
        examples.TEACHER,
        layers=layers,
        qk_norm=True,
        mlp=fdl.Partial(models.MoE, num_experts=4, hidden_dim=16, renormalize=True),
    )
    experiment = examples.experiment(
        corpus, EMATeacher(decay=0.9), terms=TERMS, student=student
    )
    # Much decay, so that what decays shows; an eps that leaves the rounding of the
    # smallest gradients as small as it is.
    optimizer = optimizers.adamw(1e-2, weight_decay=1.0, eps=1e-3)
    experiment = dataclasses.replace(experiment, optimizer=optimizer)
    return examples.ready(experiment, mesh=MESHES[mesh], microbatches=2, remat="dots")


def trained(ready, state, *, start, stop):
    """The state after step `stop`, and the last metrics."""
    leaves, metrics = jax.tree.leaves(state), {}
    with ready.batches(start=start) as batches:
        for _ in range(start, stop):
            leaves, metrics = ready.step(leaves, next(batches))
    return ready.step.unflatten(leaves), fetch(metrics)


def stacked(state):
    """Parameters, their average and their moments, with stacked layers."""
    trees = {
        "params": state.params["student"],
        "teacher": state.teacher["params"],
        "mu": optax.tree.get(state.opt_state, "mu")["student"],
        "nu": optax.tree.get(state.opt_state, "nu")["student"],
    }
    trees = jax.device_get(trees)
    if "stacked" in trees["params"]["blocks"]:
        return trees
    return {name: stacked_values(tree) for name, tree in trees.items()}


@pytest.mark.slow
def test_both_forms_are_trained_alike(corpus):
    # dear: two forms of a mixture and its average, compiled and counted.
    found = {}
    for layers in FORMS:
        ready = setup(corpus, layers)
        state, metrics = trained(ready, ready.initial_state(), start=0, stop=4)
        found[layers] = stacked(state), metrics, ready.flops_per_step()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6)
    jax.tree.map(close, found["stacked"][0], found["separate"][0])
    assert found["stacked"][1].keys() == found["separate"][1].keys()
    # `kd` is what is left of differences of logits of order one.
    assert found["stacked"][1] == pytest.approx(
        found["separate"][1], rel=1e-4, abs=1e-6
    )
    # In the pass for statistics nothing reads what the last layer's experts give; the
    # compiler leaves them out, but not of one trip of a loop: on each of 4 parts of
    # the batch, of 24 tokens, 4 experts of 24 by 16 with 16 slots, 3 products.
    last_experts = 4 * 4 * 16 * 3 * (2 * 24 * 16)
    assert found["stacked"][2] == found["separate"][2] + last_experts


def test_moments_and_average_lie_where_the_parameters_do(corpus):
    state = setup(corpus, "stacked").initial_state()

    def specs(tree):
        return jax.tree.map(lambda x: x.sharding.spec, tree["blocks"]["stacked"])

    wanted = specs(state.params["student"])
    assert wanted["attention"]["query"] == jax.P(None, "fsdp", "tensor")
    assert specs(state.teacher["params"]) == wanted
    assert specs(optax.tree.get(state.opt_state, "mu")["student"]) == wanted


@pytest.mark.slow
def test_a_checkpoint_goes_on_bit_for_bit(corpus, tmp_path):
    ready = setup(corpus, "stacked")
    state, _ = trained(ready, ready.initial_state(), start=0, stop=2)
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(2, state)
        whole, _ = trained(ready, state, start=2, stop=4)
        resumed, _ = trained(ready, ready.restore(checkpoints), start=2, stop=4)
    assert_bits(jax.device_get(resumed), jax.device_get(whole))


@pytest.mark.slow  # `test_a_checkpoint_goes_on_bit_for_bit` is on one mesh
def test_a_checkpoint_goes_on_on_another_mesh(corpus, tmp_path):
    ready = setup(corpus, "stacked")
    state, _ = trained(ready, ready.initial_state(), start=0, stop=2)
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(2, state)
        whole, _ = trained(ready, state, start=2, stop=4)
        moved = setup(corpus, "stacked", mesh="expert")
        elsewhere, _ = trained(moved, moved.restore(checkpoints), start=2, stop=4)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6)
    jax.tree.map(close, stacked(elsewhere), stacked(whole))


@pytest.mark.slow  # both teach, as averages, in `test_both_forms_are_trained_alike`
def test_a_run_with_stacked_layers_teaches_as_one_with_separate_layers(
    corpus, tmp_path
):
    dataset = fdl.build(corpus).load()
    found = []
    for layers in FORMS:
        teacher = fdl.copy_with(examples.TEACHER, layers=layers)
        run = examples.write_run(tmp_path / layers, dataset, student=teacher)
        experiment = examples.experiment(corpus, OnlineTeacher(checkpoint=str(run)))
        (params, total, _), _, _ = examples.gradients(experiment)
        found.append((params, total))
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
    jax.tree.map(close, *found)


@pytest.mark.parametrize("family", ["qwen2", "mixtral"])
def test_published_weights_fill_stacked_layers(corpus, family):
    opened = pretrained.open_model(FIXTURES / family)
    setting = examples.setting(fdl.build(corpus).load().vocabulary)
    make = functools.partial(opened.model, layers="stacked")
    modules = TrainModules(make, [], optax.identity())
    params = modules.abstract(setting.mesh, setting.rules).params["student"]
    found = PublishedWeights(str(FIXTURES / family)).read(
        {"params": params, "variables": {}}
    )
    wanted = stacked_values(opened.arrays())
    jax.tree.map(np.testing.assert_array_equal, found["params"], wanted)
