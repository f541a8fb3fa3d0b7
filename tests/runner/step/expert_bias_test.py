"""Balance by a bias: the same run however it is cut, and when it is resumed."""

import fiddle as fdl
import jax
import numpy as np
import pytest

import losses
import models
from losses import LossTerm
from runner import runtime
from runner.checkpoint.checkpoints import Checkpoints
from runner.step.metrics import fetch
from tests.cases import cases
from tests.runner.states import assert_bits
from tests.runner.teachers import examples

RATE, EXPERTS, STEPS = 0.01, 4, 3
FORMS = ("separate", "stacked")
CUTS = {
    "microbatches": {"microbatches": 4, "mesh": runtime.Mesh(data=2, tensor=4)},
    "expert": {"mesh": runtime.Mesh(data=2, tensor=2, expert=2)},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return examples.source(tmp_path_factory.mktemp("text"))


def setup(corpus, layers="separate", **cuts):
    """A mixture that learns from labels alone, balanced by its bias."""
    mlp = fdl.Partial(models.MoE, num_experts=EXPERTS, hidden_dim=16, bias_rate=RATE)
    student = fdl.copy_with(examples.TEACHER, layers=layers, mlp=mlp)
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy())]
    experiment = examples.experiment(corpus, None, terms=terms, student=student)
    return examples.ready(experiment, **cuts)


def trained(ready, state, *, start, stop):
    """The state after step `stop`, and the metrics of every step."""
    leaves, metrics = jax.tree.leaves(state), []
    with ready.batches(start=start) as batches:
        for _ in range(start, stop):
            leaves, said = ready.step(leaves, next(batches))
            metrics.append(fetch(said))
    return ready.step.unflatten(leaves), metrics


def biases(state):
    """`[layer expert]`, whichever form the layers have."""
    blocks = jax.device_get(state.variables["student"]["blocks"])
    if "stacked" in blocks:
        return blocks["stacked"]["mlp"]["bias"]
    return np.stack([blocks[key]["mlp"]["bias"] for key in sorted(blocks, key=int)])


@pytest.mark.parametrize(
    "layers", cases({form: form for form in FORMS}, fast=("separate",))
)
def test_a_step_moves_it_by_the_load_of_its_batch(corpus, layers):
    ready = setup(corpus, layers)
    state = ready.initial_state()
    np.testing.assert_array_equal(biases(state), np.zeros((2, EXPERTS)))
    expected = np.zeros((2, EXPERTS), np.float32)

    @jax.jit
    def chosen(state, rows):
        """The experts of every token, by the model alone: `[b t layer chosen]`."""
        model = ready.modules.student(
            state.params["student"], state.variables["student"]
        )
        capture = frozenset({"router_assignments"})
        return model.trunk(rows, capture=capture).intermediates["router_assignments"]

    def load_of(state, rows):
        experts = np.asarray(chosen(*jax.device_get((state, rows))))
        real = experts[np.asarray(rows["segment_ids"]) > 0]
        return np.stack(
            [np.bincount(real[:, i].ravel(), minlength=EXPERTS) for i in range(2)]
        ).astype(np.float32)

    with ready.batches(start=0) as batches:
        for _ in range(STEPS):
            batch = next(batches)
            load = load_of(state, batch)
            moved = np.sign(load.mean(-1, keepdims=True) - load)
            expected += np.float32(RATE) * moved.astype(np.float32)
            leaves, _ = ready.step(jax.tree.leaves(state), batch)
            state = ready.step.unflatten(leaves)
            np.testing.assert_array_equal(biases(state), expected)
    assert np.all(np.any(expected != 0, axis=-1))


@pytest.mark.parametrize(
    ("layers", "cut"),
    cases(
        {f"{form}, {cut}": (form, cut) for form in FORMS for cut in CUTS},
        fast=(),
    ),
)
def test_no_cut_moves_it_otherwise(corpus, layers, cut):
    whole = setup(corpus)
    state, metrics = trained(whole, whole.initial_state(), start=0, stop=STEPS)
    ready = setup(corpus, layers, **CUTS[cut])
    found, said = trained(ready, ready.initial_state(), start=0, stop=STEPS)
    np.testing.assert_array_equal(biases(found), biases(state))
    for name in ("moe/load_entropy", "moe/load_violation", "learning/ce"):
        assert said[-1][name] == pytest.approx(metrics[-1][name], rel=1e-5)


@pytest.mark.parametrize("layers", cases(dict(zip(FORMS, FORMS, strict=True)), fast=()))
def test_a_resumed_run_goes_on_bit_for_bit(corpus, tmp_path, layers):
    ready = setup(corpus, layers)
    state, _ = trained(ready, ready.initial_state(), start=0, stop=2)
    assert np.any(biases(state))
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(2, state)
        whole, _ = trained(ready, state, start=2, stop=4)
        resumed, _ = trained(ready, ready.restore(checkpoints), start=2, stop=4)
    assert_bits(jax.device_get(resumed), jax.device_get(whole))
