"""A teacher between the student and the real one, by the loss (TAID)."""

import math

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm
from runner import runtime
from runner.teachers import OnlineTeacher
from tests.runner.teachers import examples

TAID = losses.TAID(
    loss=losses.ForwardKL(), share=0.4, num_steps=50, rate=0.05, decay=0.5
)


def released(values, *, num_steps=50, rate=0.05, decay=0.5):
    """λ after each value, as the released code has it, in float64."""
    share, before, momentum, shares = 0.4, math.inf, 0.0, []
    for step, value in enumerate(values):
        if not math.isinf(before):
            momentum = decay * momentum + (1 - decay) * (before - value) / (
                before + 1e-15
            )
            risen = share + rate / (1 + math.exp(-momentum)) * (1 - share)
            share = min(1.0, max(0.4 + 0.6 * step / num_steps, risen))
        before = value
        shares.append(share)
    return shares


def test_the_share_rises_as_in_the_released_code():
    values = np.exp(np.random.default_rng(0).normal(size=60)).tolist()
    memory, shares = TAID.initial(), []
    remember = jax.jit(TAID.remember)
    for step, value in enumerate(values):
        memory = remember(jnp.float32(value), memory, jnp.int32(step))
        shares.append(float(memory["share"]))
    np.testing.assert_allclose(shares, released(values), rtol=1e-5)
    assert shares[0] == np.float32(0.4)
    assert shares[-1] == 1.0
    # A batch that is no number, or has no token to count, leaves it as it is.
    for value in (np.nan, 0.0):
        later = remember(jnp.float32(value), memory, jnp.int32(3))
        jax.tree.map(np.testing.assert_array_equal, later, memory)
    with pytest.raises(ValueError, match="OverGroups must have no memory, got TAID"):
        losses.OverGroups(loss=TAID, column="group", num_groups=2)


@pytest.mark.slow  # whole steps
def test_a_step_reads_the_share_and_moves_it_however_the_batch_is_cut(tmp_path):
    corpus = examples.source(tmp_path / "text")
    run = examples.write_run(tmp_path / "run", fdl.build(corpus).load())
    terms = [LossTerm(name="kd", loss=TAID)]
    teacher = OnlineTeacher(checkpoint=str(run))
    memories, values = [], []
    for microbatches in (1, 2):
        cfg = examples.experiment(corpus, teacher, terms=terms)
        mesh = runtime.Mesh(data=8 // microbatches, tensor=microbatches)
        ready = examples.ready(cfg, mesh=mesh, microbatches=microbatches)
        leaves, values = jax.tree.leaves(ready.initial_state()), []
        with ready.batches(start=0) as batches:
            for _ in range(3):
                leaves, metrics = ready.step(leaves, next(batches))
                values.append(float(metrics["learning/kd"].compute()))
        memories.append(
            jax.device_get(ready.step.unflatten(leaves).memory["losses"]["kd"])
        )
    np.testing.assert_allclose(memories[0]["share"], released(values)[-1], rtol=1e-5)
    np.testing.assert_allclose(memories[0]["value"], values[-1], rtol=1e-5)
    assert memories[0]["share"] > 0.4 + 0.6 * 2 / 50
    for name, x in memories[0].items():
        np.testing.assert_allclose(memories[1][name], x, rtol=1e-4, atol=1e-6)
