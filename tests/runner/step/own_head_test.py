"""A term with its own head: its gradients, where they do not go, where it is kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer, sharding
from runner import runtime
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.arrays import TeacherState
from runner.step.objective import Objective
from runner.step.requirements import check_needs
from runner.step.train_step import gradients as step_gradients
from runner.teachers.base import LoadedTeacher, TeacherTrunk
from tests.cases import cases
from tests.heads import in_blocks, in_tiles

BATCH, LENGTH, VOCABULARY, DIM, BEST = 8, 6, 21, 16, 4

STUDENT = functools.partial(
    Transformer, vocab_size=VOCABULARY, dim=DIM, num_layers=1, num_heads=2
)
CE = LossTerm(name="ce", loss=losses.CrossEntropy())


def own(loss, **fields):
    given = {"dim": DIM, "num_outputs": VOCABULARY} | fields
    return functools.partial(losses.OwnHead, loss=loss, **given)


class Best(LoadedTeacher):
    """A teacher's best entries, as they lie in the batch."""

    def trunk(self, fixed, moving, batch, *, capture, logits) -> TeacherTrunk:
        del fixed, moving, batch, capture, logits

        def outputs(shared, tokens, batch):
            del shared, tokens
            return losses.TeacherOutputs(
                indices=batch["teacher/indices"],
                logits=batch["teacher/logits"],
                log_normalizers={1.0: batch["teacher/log_normalizer"]},
            )

        return TeacherTrunk(tokens={}, head_params={}, outputs=outputs)

    def describe(self):
        return {}


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    shape = (BATCH, LENGTH)
    t = jnp.asarray(np.float32(draw.normal(size=(*shape, VOCABULARY), scale=2)))
    best, indices = jax.lax.top_k(t, BEST)
    return {
        "tokens": draw.integers(0, VOCABULARY, shape).astype(np.int32),
        "targets": draw.integers(0, VOCABULARY, shape).astype(np.int32),
        "mask": draw.random(shape) < 0.7,
        "segment_ids": np.ones(shape, np.int32),
        "positions": np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1)),
        "teacher/indices": np.asarray(indices),
        "teacher/logits": np.asarray(best),
        "teacher/log_normalizer": np.asarray(jax.nn.logsumexp(t, axis=-1)),
    }


def modules(*terms):
    return TrainModules(STUDENT, terms, optax.sgd(0.1))


TERMS = (
    CE,
    LossTerm(name="kd", loss=own(losses.ForwardKL(), hidden_dim=10), weight=0.7),
)


def gradients(batch, *, terms=TERMS, mesh=None, head=None, microbatches=1):
    config = runtime.Runtime(
        mesh=mesh or runtime.Mesh(data=8),
        step=runtime.Step(microbatches=microbatches),
        head=head or runtime.Head(),
    )
    devices, rules = mesh_lib.make(config.mesh), config.mesh.rules
    made = modules(*terms)
    objective = Objective(made, mesh=devices, config=config, seed=0, teacher=Best())
    state = made.create(3, devices, rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, rules):
            found = step_gradients(
                objective,
                state.params,
                state.variables,
                batch,
                jnp.int32(5),
                teacher=TeacherState(),
                memory=state.memory,
            )
        return found.params, found.total

    placed = jax.device_put(batch, mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@pytest.fixture(scope="module")
def expected(batch):
    """By plain autodiff of the whole, written out: both heads read one array."""
    made = modules(*TERMS)
    state = jax.jit(made.initial)(jax.random.key(3))
    mask = jnp.asarray(batch["mask"], jnp.float32)

    def objective(params):
        student = made.student(params["student"], state.variables["student"])
        hidden = student.trunk(batch).hidden
        ce = optax.softmax_cross_entropy_with_integer_labels(
            student.head(hidden), batch["targets"]
        )
        first, last = (params["losses"]["kd"][name] for name in ("first", "last"))
        rank = (1, 1, -1)
        inner = jnp.maximum(hidden @ first["kernel"] + first["bias"].reshape(rank), 0.0)
        logits = inner @ last["kernel"] + last["bias"].reshape(rank)
        log_q = jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch["teacher/indices"], axis=-1
        )
        log_p = batch["teacher/logits"] - batch["teacher/log_normalizer"][..., None]
        p, rest_p, rest_q = (
            jnp.exp(log_p),
            1 - jnp.exp(log_p).sum(-1),
            1 - jnp.exp(log_q).sum(-1),
        )
        kl = jnp.sum(p * (log_p - log_q), axis=-1)
        kl = kl + rest_p * (jnp.log(rest_p) - jnp.log(rest_q))
        return jnp.sum(mask * (ce + 0.7 * kl)) / jnp.sum(mask)

    total, params = jax.jit(jax.value_and_grad(objective))(state.params)
    return jax.device_get((params, total))


CUTS = {
    "whole": {},
    "fsdp, tensor": {"mesh": runtime.Mesh(data=2, fsdp=2, tensor=2)},
    "blocks of 5": {"head": in_blocks(5, VOCABULARY)},
    "tiles of 4": {"head": in_tiles(4)},
    "accumulated": {"mesh": runtime.Mesh(data=2, tensor=4), "microbatches": 2},
}


@pytest.mark.parametrize("cut", cases(CUTS, fast=()))
def test_however_a_batch_is_cut_the_gradient_is_that_of_the_textbook(
    batch, expected, cut
):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=5e-5, atol=3e-6),
        gradients(batch, **cut),
        expected,
    )


@pytest.mark.slow  # `programs_test` holds the gradients of both heads to the textbook
def test_neither_head_has_a_gradient_from_the_others_term(batch):
    """And the trunk has one from both."""
    params, _ = gradients(batch, terms=TERMS[1:])
    names = {
        jax.tree_util.keystr(path): float(np.max(np.abs(x)))
        for path, x in jax.tree_util.tree_leaves_with_path(params["student"])
    }
    heads = {name for name in names if name.startswith("['output']")}
    assert heads
    assert {names[name] for name in heads} == {0.0}, names
    assert any(size > 0.0 for name, size in names.items() if name not in heads)
    unread = (CE, LossTerm(name="kd", loss=TERMS[1].loss, weight=0.0))
    params, _ = gradients(batch, terms=unread)
    assert not any(np.any(x) for x in jax.tree.leaves(params["losses"]))


def test_the_head_is_trained_and_kept_with_the_losses_not_with_the_student():
    made = modules(CE, LossTerm(name="kd", loss=own(losses.ForwardKL())))
    state = jax.eval_shape(made.initial, jax.random.key(0))
    assert state.params["losses"]["kd"]["last"]["kernel"].shape == (DIM, VOCABULARY)
    alone = jax.eval_shape(modules(CE).initial, jax.random.key(0))
    assert jax.tree.structure(state.params["student"]) == jax.tree.structure(
        alone.params["student"]
    )


def test_what_the_head_reads_is_offered_by_every_model_and_misspelt_is_named():
    (term,) = modules(
        LossTerm(name="kd", loss=own(losses.ForwardKL()))
    ).abstract_terms()
    check_needs([term], frozenset())

    class Misspelt(losses.Loss):
        needs = frozenset({"trunks"})

        def __call__(self, outputs):
            return outputs.log_normalizer()

    with pytest.raises(UserError, match=r"Misspelt needs 'trunks'.*'trunk'"):
        check_needs([LossTerm(name="m", loss=Misspelt())], frozenset({"hidden"}))


@pytest.mark.slow
def test_an_unopposed_term_is_that_of_the_gradients_projected_in_hidden_states(batch):
    loss = functools.partial(
        losses.OwnHead, loss=losses.CrossEntropy(), dim=DIM, num_outputs=VOCABULARY
    )
    made = modules(CE, LossTerm(name="kd", loss=loss))
    state = jax.jit(made.initial)(jax.random.key(3))
    mask = jnp.asarray(batch["mask"], jnp.float32)

    def by_hand(params):
        student = made.student(params["student"], state.variables["student"])
        last = params["losses"]["kd"]["last"]

        def both(hidden):
            own = hidden @ last["kernel"] + last["bias"].reshape(1, 1, -1)
            values = (
                optax.softmax_cross_entropy_with_integer_labels(x, batch["targets"])
                for x in (student.head(hidden), own)
            )
            return jnp.stack([jnp.sum(mask * x) / jnp.sum(mask) for x in values])

        hidden = student.trunk(batch).hidden
        ce, kd = jax.jacrev(both)(jax.lax.stop_gradient(hidden))
        share = jax.lax.stop_gradient(jnp.sum(ce * kd) / jnp.sum(ce * ce))
        weight = -2.0 * jnp.sign(share)  # against the labels, whatever the draws
        values = both(hidden)
        return (1.0 + 2.0 * jnp.abs(share)) * values[0] + weight * values[1], weight

    (_, weight), expected = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(
        state.params
    )
    weight = float(weight)
    ce = LossTerm(
        name="ce",
        loss=losses.CrossEntropy(),
        weight=losses.Unopposed(of="kd", of_weight=weight),
    )
    terms = (ce, LossTerm(name="kd", loss=loss, weight=weight))
    params, _ = gradients(batch, terms=terms)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=5e-5, atol=3e-6),
        params["student"],
        jax.device_get(expected["student"]),
    )
