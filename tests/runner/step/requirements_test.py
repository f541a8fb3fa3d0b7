import functools
from contextlib import nullcontext
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer, sharding
from runner import Experiment, runtime
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.requirements import check_masks, check_teacher
from runner.step.train_step import gradients as step_gradients
from runner.teachers.base import LoadedTeacher
from tests.heads import in_blocks

STUDENT = functools.partial(
    Transformer, vocab_size=11, dim=8, num_layers=1, num_heads=2
)


class Contrast(losses.Loss):
    """How far a token's target logit is from the mean over the whole batch."""

    needs = frozenset({"logits"})
    scope = "batch"

    def __call__(self, outputs):
        first = outputs.logits[..., 0]
        return jnp.square(first - jnp.mean(first, keepdims=True))


class Span(losses.Loss):
    """Each token gets the largest logit of its sequence."""

    needs = frozenset({"logits"})
    scope = "sequence"

    def __call__(self, outputs):
        largest = jnp.max(outputs.logits, axis=(-1, -2), keepdims=True)[..., 0]
        return jnp.broadcast_to(largest, outputs.batch["targets"].shape)


def experiment(*terms):
    return Experiment(
        student=STUDENT,
        losses=terms,
        train_data=None,
        optimizer=optax.sgd(1.0),
        num_steps=1,
        batch_size=8,
    )


def test_a_term_that_needs_what_is_not_there_is_refused_before_anything_is_made():
    term = LossTerm(name="router_z", loss=losses.RouterZLoss())
    with pytest.raises(
        UserError,
        match=r"^losses\.router_z: RouterZLoss needs 'router_logits', which the "
        r"student does not offer: its layers are dense, a mixture of experts "
        r"\(mlp=models.MoE\) has routers",
    ):
        experiment(term).check()


def test_a_policy_gradient_of_other_draws_than_those_of_the_data_is_refused():
    data = SimpleNamespace(
        rollouts=SimpleNamespace(top_k=40, top_p=None, temperature=1.0, group=8)
    )
    reward = losses.SaysAnswer(column="answer")
    for loss, message in (
        (losses.PolicyGradient(reward=reward), "top_k=None, and train_data .*top_k=40"),
        (losses.CrossEntropy(), ""),
    ):
        term = LossTerm(name="pg", loss=loss)
        with pytest.raises(UserError, match=message) if message else nullcontext():
            check_masks([term], data)


class Speaker(LoadedTeacher):
    """A teacher that offers its distribution, as an ensemble does."""

    def trunk(self, *arguments, **options):
        raise NotImplementedError

    def describe(self):
        return {}


@pytest.mark.parametrize(
    ("teacher", "hint"),
    [(Speaker(), "it offers its distribution alone"), (None, "needs a teacher")],
)
def test_a_teacher_without_routers_or_layers_is_told_so(teacher, hint):
    term = LossTerm(name="routers", loss=losses.RouterDistillation())
    with pytest.raises(UserError, match=hint):
        check_teacher([term], teacher)


def test_losses_of_spans_are_told_whose_spans_they_want():
    term = LossTerm(name="spans", loss=losses.SpanLikelihood())
    with pytest.raises(UserError, match=r"does not offer: spans are .*runner.Aligned"):
        check_teacher([term], Speaker())


def test_the_nearest_intermediate_is_named():
    class Wrong(losses.Loss):
        needs = frozenset({"hiden/0"})

        def __call__(self, outputs):
            return outputs.log_normalizer()

    with pytest.raises(UserError, match="did you mean 'hidden/0'"):
        experiment(LossTerm(name="wrong", loss=Wrong())).check()


BLOCKS = in_blocks(7, 11, planes=3)


def objective(term, mesh, *, head=None, **step):
    modules = TrainModules(STUDENT, [term], optax.sgd(1.0))
    config = runtime.Runtime(
        mesh=mesh, step=runtime.Step(**step), head=head or runtime.Head()
    )
    devices = mesh_lib.make(config.mesh)
    made = Objective(modules, mesh=devices, config=config, seed=0)
    state = modules.create(0, devices, config.mesh.rules)
    rng = np.random.default_rng(0)
    shape = (8, 6)
    batch = {
        "tokens": rng.integers(0, 11, shape).astype(np.int32),
        "targets": rng.integers(0, 11, shape).astype(np.int32),
        "mask": np.ones(shape, bool),
        "segment_ids": np.ones(shape, np.int32),
        "positions": np.tile(np.arange(6, dtype=np.int32), (8, 1)),
    }

    @jax.jit
    def total(state, batch):
        with sharding.use(devices, config.mesh.rules):
            found = step_gradients(
                made, state.params, state.variables, batch, jnp.int32(0)
            )
        return found.total, found.params

    placed = jax.device_put(batch, mesh_lib.batch_sharding(devices))
    params, variables = state.params["student"], state.variables["student"]

    @jax.jit
    def whole(params, variables, batch):
        student = modules.student(params, variables)
        return student.head(student.trunk(batch).hidden)

    logits = whole(*jax.device_get((params, variables)), batch)
    return float(total(state, placed)[0]), np.asarray(logits)


def test_a_term_over_the_batch_sees_all_of_it():
    term = LossTerm(name="contrast", loss=Contrast())
    found, logits = objective(term, runtime.Mesh(data=1, tensor=8), head=BLOCKS)
    first = logits[..., 0]
    assert found == pytest.approx(np.mean((first - first.mean()) ** 2), rel=1e-4)


def test_a_term_over_sequences_sees_them_whole_in_every_block_and_shard():
    term = LossTerm(name="span", loss=Span())
    mesh = runtime.Mesh(data=2, tensor=4)
    found, logits = objective(term, mesh, head=BLOCKS, microbatches=2)
    assert found == pytest.approx(logits.max(axis=(1, 2)).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("mesh", "microbatches"),
    [(runtime.Mesh(data=8), 1), (runtime.Mesh(data=1, tensor=8), 2)],
)
def test_a_term_over_the_batch_is_refused_where_the_batch_is_cut(mesh, microbatches):
    term = LossTerm(name="contrast", loss=Contrast())
    with pytest.raises(UserError, match=r"losses\.contrast: Contrast is no sum over"):
        objective(term, mesh, microbatches=microbatches)
