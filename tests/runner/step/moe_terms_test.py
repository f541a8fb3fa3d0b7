"""Terms over routers: the same gradient however a batch is cut, padding left out."""

import functools

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
import models
from losses import LossTerm
from runner import runtime
from runner.errors import UserError
from runner.step.metrics import fetch
from runner.teachers import OnlineTeacher
from runner.teachers.model import LoadedModel
from tests.cases import cases
from tests.heads import in_blocks, in_tiles
from tests.runner.teachers import examples

EXPERTS, K = 4, 2
MIXTURE = fdl.copy_with(
    examples.TEACHER,
    mlp=fdl.Partial(models.MoE, num_experts=EXPERTS, hidden_dim=16),
)
TERMS = [
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(
        name="balance",
        loss=losses.LoadBalance(layers="pooled"),
        weight=0.5,
    ),
    LossTerm(
        name="sequences",
        loss=losses.SequenceLoadBalance(layers="sum"),
        weight=0.3,
    ),
    LossTerm(
        name="router_z",
        loss=losses.RouterZLoss(layers="sum"),
        weight=1e-2,
        mask=losses.target_mask,
    ),
    LossTerm(
        name="router_kd",
        loss=losses.RouterDistillation(layers=((0, 1), (1, 0))),
        mask=losses.target_mask,
    ),
]
CUTS = {
    "8": {},
    "microbatches": {"mesh": runtime.Mesh(data=2, tensor=4), "microbatches": 4},
    "blocks": {"mesh": runtime.Mesh(tensor=8), "head": in_blocks(25, 300)},
    "experts, tiles": {
        "mesh": runtime.Mesh(data=2, fsdp=2, expert=2),
        "head": in_tiles(64),
    },
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return examples.source(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def teacher(corpus, tmp_path_factory):
    """A mixture as a teacher."""
    path = tmp_path_factory.mktemp("teacher") / "run"
    dataset = fdl.build(corpus).load()
    return str(examples.write_run(path, dataset, student=MIXTURE))


def experiment(corpus, teacher, terms=TERMS, student=MIXTURE):
    source = None if teacher is None else OnlineTeacher(checkpoint=teacher)
    return examples.experiment(corpus, source, terms=terms, student=student)


def routed(model, rows):
    capture = frozenset({"router_logits", "router_assignments"})
    return model.trunk(rows, capture=capture)


def taught(ready, rows):
    """The teacher's trunk over all of a batch, on the host."""
    fixed = jax.device_get(ready.step.frozen)
    teacher = ready.step.teacher
    assert isinstance(teacher, LoadedModel)

    @jax.jit
    def trunk(fixed, rows):
        return routed(teacher.make(fixed["params"], fixed["variables"]), rows)

    return trunk(fixed, rows)


def padded(ready):
    """The first batch, with rows that end early and tokens without a target."""
    with ready.batches(start=0) as batches:
        batch = next(batches)
    rows = dict(jax.device_get(batch))
    real = np.arange(12) < np.array([[12], [1], [7], [12], [3], [12], [5], [0]])
    has_target = real & (np.random.default_rng(0).random(real.shape) < 0.7)
    rows |= {"segment_ids": rows["segment_ids"] * real, "mask": has_target}
    return jax.device_put(rows, batch["tokens"].sharding)


@pytest.fixture(scope="module")
def expected(corpus, teacher):
    """Gradient and total by autodiff of the whole, written out."""
    ready = examples.ready(experiment(corpus, teacher))
    rows = jax.device_get(padded(ready))
    state = jax.device_get(ready.initial_state())
    theirs = taught(ready, rows).intermediates["router_logits"]
    targets = rows["mask"].astype(np.float32)
    tokens = (rows["segment_ids"] > 0).astype(np.float32)
    assert tokens.sum() > targets.sum() > 0

    def mean(values, mask):
        return jnp.sum(values * mask) / jnp.sum(mask)

    def objective(params):
        model = ready.modules.student(params["student"], state.variables["student"])
        seen = routed(model, rows)
        logits = jax.nn.log_softmax(model.head(seen.hidden))
        ce = -jnp.take_along_axis(logits, rows["targets"][..., None], -1)[..., 0]
        router = seen.intermediates["router_logits"]
        p = jax.nn.softmax(router)
        hit = jax.nn.one_hot(seen.intermediates["router_assignments"], EXPERTS).sum(-2)
        f, P = (
            jnp.einsum("bt,btle->e", tokens, x) / tokens.sum() / 2 for x in (hit, p)
        )
        balance = EXPERTS / K * jnp.sum(f * P)
        counts = jnp.maximum(tokens.sum(1), 1.0)[:, None, None]
        f, P = (jnp.einsum("bt,btle->ble", tokens, x) / counts for x in (hit, p))
        by_row = EXPERTS / K * jnp.sum(f * P, axis=(1, 2))
        sequences = jnp.sum(by_row * tokens.sum(1)) / tokens.sum()
        z = jnp.square(jax.nn.logsumexp(router, axis=-1)).sum(-1)
        log_p, log_q = (jax.nn.log_softmax(x) for x in (theirs[:, :, ::-1], router))
        kd = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1).mean(-1)
        return (
            mean(ce, targets)
            + 0.5 * balance
            + 0.3 * sequences
            + 1e-2 * mean(z, targets)
            + mean(kd, targets)
        )

    total, params = jax.jit(jax.value_and_grad(objective))(state.params)
    return jax.device_get((params["student"], total))


@pytest.mark.parametrize("cuts", cases(CUTS, fast=()))
def test_the_gradient_is_that_of_the_textbook(corpus, teacher, expected, cuts):
    # dear: trains a teacher, and compiles the textbook and the step.
    ready = examples.ready(experiment(corpus, teacher), **cuts)

    @jax.jit
    def compute(*given):
        found = ready.step.gradients(*given)
        return found.params["student"], found.total

    found = compute(ready.initial_state(), padded(ready), ready.step.frozen)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
    jax.tree.map(close, jax.device_get(found), expected)


@pytest.mark.parametrize("microbatches", cases({"1": 1, "4": 4}, fast=()))
def test_the_teachers_load_is_logged_beside_the_students(corpus, teacher, microbatches):
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy())]
    ready = examples.ready(
        experiment(corpus, teacher, terms),
        mesh=runtime.Mesh(data=2, tensor=4),
        microbatches=microbatches,
    )
    batch = padded(ready)
    rows = jax.device_get(batch)
    chosen = np.asarray(taught(ready, rows).intermediates["router_assignments"])
    real = chosen[rows["segment_ids"] > 0]
    load = np.stack(
        [np.bincount(real[:, layer].ravel(), minlength=EXPERTS) for layer in range(2)]
    )
    _, metrics = ready.step(jax.tree.leaves(ready.initial_state()), batch)
    found = fetch(metrics)
    violation = np.mean(load.max(-1) / load.mean(-1) - 1)
    assert found["moe/teacher_load_violation"] == pytest.approx(violation, rel=1e-5)
    assert found["moe/load_violation"] != found["moe/teacher_load_violation"]


DENSE = examples.STUDENT
MISSING = {
    "a dense student": (DENSE, losses.LoadBalance(), "'router_assignments', which the"),
    "a path that is not offered": (
        MIXTURE,
        losses.LoadBalance(source="routers"),
        "'routers_assignments', which the student does not offer",
    ),
    "a layer that is not there": (
        MIXTURE,
        losses.RouterDistillation(layers=((2, 0),)),
        "'router_logits/2', which the student does not offer",
    ),
    "no teacher": (MIXTURE, losses.RouterDistillation(), "needs a teacher"),
    "no teacher to balance": (
        MIXTURE,
        losses.LoadBalance(source="teacher/router"),
        "needs a teacher",
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_source_is_refused_in_one_line(corpus, case):
    student, loss, message = MISSING[case]
    terms = [LossTerm(name="balance", loss=loss)]
    with pytest.raises(UserError) as refused:
        examples.ready(experiment(corpus, None, terms, student))
    said = str(refused.value)
    assert said.startswith("losses.balance: ") and message in said and "\n" not in said


def test_a_dense_teacher_has_no_router_to_learn_from(corpus, tmp_path):
    dataset = fdl.build(corpus).load()
    dense = str(examples.write_run(tmp_path / "dense", dataset))
    terms = [LossTerm(name="kd", loss=losses.RouterDistillation())]
    with pytest.raises(UserError, match="'teacher/router_logits', which the teacher"):
        examples.ready(experiment(corpus, dense, terms))
