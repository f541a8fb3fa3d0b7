"""Drafts beside the student's own targets: gradients of the textbook, however cut."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import losses
from losses import LossTerm
from models import Drafted, Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from tests.heads import in_blocks
from tests.runner.step.inputs import VOCABULARY, assert_same, ragged

STEPS = 2
STUDENT = functools.partial(
    Transformer, vocab_size=VOCABULARY, dim=16, num_layers=1, num_heads=2
)
TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(
        name="draft",
        loss=losses.Draft(loss=losses.ForwardKL(), steps=STEPS, decay=0.8),
        weight=0.5,
    ),
    LossTerm(
        name="still",
        loss=losses.Draft(loss=losses.CrossEntropy(), head="constant"),
        weight=0.3,
    ),
)


def modules():
    student = functools.partial(Drafted, model=STUDENT, steps=STEPS)
    return TrainModules(student, TERMS, optax.sgd(0.1))


def by_hand(made, params, batch):
    """The objective, of whole rows of logits at once."""
    student = made.student(params["student"], {})
    paths = frozenset({"draft/1", "draft/2"})
    outputs = student.trunk(batch, capture=paths)
    logits = student.head(outputs.hidden)
    still = made.student(jax.lax.stop_gradient(params["student"]), {})
    first, second = (outputs.intermediates[p] for p in sorted(paths))
    ce = optax.softmax_cross_entropy_with_integer_labels
    log_p = jax.lax.stop_gradient(jax.nn.log_softmax(logits))
    kl = [
        jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(student.head(x))), -1)
        for x in (first, second)
    ]
    reached = [jnp.float32(batch["positions"] >= j) for j in (1, 2)]
    value = ce(logits, batch["targets"])
    value += 0.5 * (kl[0] * reached[0] + 0.8 * kl[1] * reached[1]) / 2
    value += 0.3 * ce(still.head(first), batch["targets"]) * reached[0]
    mask = jnp.asarray(batch["mask"], jnp.float32)
    return jnp.sum(mask * value) / jnp.sum(mask)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["blocks", "microbatches"])
def test_however_a_batch_is_cut_drafts_have_the_gradient_of_the_textbook(cut):
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=4, tensor=2),
        step=runtime.Step(microbatches=1 if cut == "blocks" else 2),
        head=in_blocks(5, VOCABULARY) if cut == "blocks" else runtime.Head(),
    )
    devices, rules = mesh_lib.make(config.mesh), config.mesh.rules
    made, batch = modules(), ragged()
    objective = Objective(made, mesh=devices, config=config, seed=0, teacher=None)
    state = made.create(3, devices, rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, rules):
            result = step_gradients(
                objective,
                state.params,
                state.variables,
                batch,
                jnp.int32(5),
                memory=state.memory,
            )
        return result.params["student"], result.total

    placed = jax.device_put(batch, mesh_lib.batch_sharding(devices))
    results = jax.device_get(compute(state, placed))
    whole = jax.jit(jax.value_and_grad(functools.partial(by_hand, made, batch=batch)))
    total, grads = jax.device_get(whole(jax.device_get(state.params)))
    assert_same(results, (grads["student"], total))
