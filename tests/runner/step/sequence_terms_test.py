"""Terms of whole sequences in a step: exact however the batch is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from losses import functional as F
from models import Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from tests.cases import cases
from tests.heads import in_blocks, in_tiles
from tests.runner.step.inputs import BATCH, VOCABULARY, assert_same, ragged

STUDENT = functools.partial(
    Transformer, vocab_size=VOCABULARY, dim=16, num_layers=1, num_heads=2
)
REFERENCE = ("first", "second")
TERMS = (
    LossTerm(name="dpo", loss=losses.DPO(beta=0.3, reference=REFERENCE)),
    LossTerm(name="kto", loss=losses.KTO(reference=REFERENCE), weight=2.0),
    LossTerm(name="simpo", loss=losses.SimPO(), weight=0.5),
    LossTerm(name="chosen", loss=losses.CrossEntropy(), mask=losses.chosen_mask),
)
CUTS = {
    "one device": (runtime.Mesh(data=1, tensor=8), runtime.Head(), 1),
    "microbatches": (runtime.Mesh(data=2, tensor=4), runtime.Head(), 4),
    "blocks": (runtime.Mesh(data=8), in_blocks(7, VOCABULARY), 1),
    "2x2x2, tiles, microbatches": (
        runtime.Mesh(data=2, fsdp=2, tensor=2),
        in_tiles(16),
        2,
    ),
}


@functools.cache
def batch():
    """Two sequences a row, some rows with one or none, and columns of a reference."""
    draw = np.random.default_rng(2)
    columns = {name: draw.normal(-9.0, 4.0, BATCH).astype("f4") for name in REFERENCE}
    return ragged() | columns | {"desirable": np.arange(BATCH) % 3 > 0}


@functools.cache
def modules():
    return TrainModules(STUDENT, TERMS, optax.sgd(0.1))


def gradients(mesh, head, microbatches):
    """Gradients, total and counts of the step, cut so."""
    config = runtime.Runtime(
        mesh=mesh, step=runtime.Step(microbatches=microbatches), head=head
    )
    devices, rules = mesh_lib.make(mesh), mesh.rules
    objective = Objective(modules(), mesh=devices, config=config, seed=0)
    state = modules().create(3, devices, rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, rules):
            grads = step_gradients(
                objective, state.params, state.variables, batch, jnp.int32(0)
            )
        counts = {name: term.count for name, term in grads.terms.items()}
        return grads.params["student"], grads.total, counts

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@functools.cache
def textbook():
    """The same by plain autodiff of means over pairs and rows, written out."""
    state = jax.jit(modules().initial)(jax.random.key(3))
    rows = batch()
    inside = [rows["mask"] & (rows["segment_ids"] == s) for s in (1, 2)]
    has = [x.any(axis=1) for x in inside]
    pairs, judged = has[0] & has[1], has[0]

    def mean(values, counted):
        return jnp.sum(jnp.where(counted, values, 0.0)) / np.float32(counted.sum())

    def objective(params):
        student = modules().student(params, state.variables["student"])
        logits = student.head(student.trunk(rows, capture=frozenset()).hidden)
        log_q = jax.nn.log_softmax(logits)
        log_q = jnp.take_along_axis(log_q, rows["targets"][..., None], axis=-1)[..., 0]
        sums = [jnp.sum(jnp.where(x, log_q, 0.0), axis=1) for x in inside]
        lengths = [np.maximum(x.sum(axis=1), 1).astype(np.float32) for x in inside]
        means = [total / length for total, length in zip(sums, lengths, strict=True)]
        first, second = rows["first"], rows["second"]
        gap = jnp.maximum(mean(sums[1] - second, judged), 0.0)
        kto = F.kto(sums[0], first, rows["desirable"], gap)
        return (
            mean(F.dpo(sums[0], sums[1], first, second, beta=0.3), pairs)
            + 2.0 * mean(kto, judged)
            + 0.5 * mean(F.simpo(*means), pairs)
            - mean(log_q, inside[0])
        )

    total, grads = jax.jit(jax.value_and_grad(objective))(state.params["student"])
    counts = {
        "dpo": pairs.sum(),
        "kto": judged.sum(),
        "simpo": pairs.sum(),
        "chosen": inside[0].sum(),
    }
    return jax.device_get((grads, total)), counts


NAMES = {name: name for name in CUTS}


@pytest.mark.parametrize("cut", cases(NAMES, fast=("2x2x2, tiles, microbatches",)))
def test_pairs_are_exact_however_the_batch_is_cut(cut):
    # dear: two programs of a student, the only whole step with terms of sequences.
    grads, total, counts = gradients(*CUTS[cut])
    (expected, expected_total), expected_counts = textbook()
    assert counts == expected_counts
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    assert_same(grads, expected)
