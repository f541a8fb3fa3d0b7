"""Diagnoses, against plain autodiff and formulas in NumPy over the whole batch."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

import losses
import models
from losses import LossTerm
from runner import runtime
from runner.evaluation.diagnostics import Conflict, Diagnosis, Diagnostics
from runner.teachers import OnlineTeacher
from tests.heads import in_blocks
from tests.runner.teachers import examples


class Contrary(losses.Loss):
    """The cross-entropy, to be made as large as can be."""

    needs = frozenset({"logits"})

    def __call__(self, outputs):
        return -losses.CrossEntropy()(outputs)


TERMS = [
    *examples.kd(),
    LossTerm(name="contrary", loss=Contrary(), weight=0.25),
    LossTerm(name="z_loss", loss=losses.ZLoss(), weight=0.0),  # watched
]


# A mixture, so that one program holds what is said of its routers too.
STUDENT = fdl.copy_with(
    examples.STUDENT, mlp=fdl.Partial(models.MoE, num_experts=4, hidden_dim=16)
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    source = examples.source(folder / "text")
    dataset = fdl.build(source).load(cache=str(folder / "cache"))
    teacher = examples.write_run(folder / "teacher", dataset)
    return examples.experiment(
        source,
        OnlineTeacher(checkpoint=str(teacher)),
        terms=TERMS,
        student=STUDENT,
    )


def diagnosed(world, **cuts):
    setup = examples.ready(world, **cuts)
    state = setup.initial_state()
    with setup.batches(start=0) as batches:
        batch = next(batches)
    found = Diagnostics(setup.step, best=5)(state, batch)
    return found, setup, state, batch


@pytest.fixture(scope="module")
def whole(world):
    return diagnosed(world)


@pytest.fixture(scope="module")
def plain(whole):
    """Logits of student and teacher, and a mask, of all tokens."""
    _, setup, state, batch = whole
    state, batch = jax.device_get((state, batch))
    student = setup.modules.student(state.params["student"], state.variables["student"])
    teacher = setup.step.teacher
    arrays = teacher.arrays(jax.device_get(setup.step.frozen), {})
    taught = teacher.make(arrays["params"], arrays["variables"])
    logits = jax.jit(lambda model, rows: model.head(model.trunk(rows).hidden))
    s, t = logits(student, batch), logits(taught, batch)
    mask = batch["mask"].astype(bool)
    wide = [np.asarray(x, np.float64)[mask] for x in (s, t)]
    return *wide, batch["targets"][mask]


@pytest.mark.slow
def test_inner_products_are_those_of_plain_gradients(whole):
    # dear: a gradient of every term, which the other tests of this file share
    found, setup, state, batch = whole
    state, batch = jax.device_get((state, batch))
    teacher = setup.step.teacher
    arrays = teacher.arrays(jax.device_get(setup.step.frozen), {})
    taught = teacher.make(arrays["params"], arrays["variables"])

    def terms(params):
        student = setup.modules.student(params, state.variables["student"])
        s = student.head(student.trunk(batch).hidden)
        t = jax.nn.log_softmax(taught.head(taught.trunk(batch).hidden))
        ce = optax.softmax_cross_entropy_with_integer_labels(s, batch["targets"])
        kl = optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(s), t)
        z = jnp.square(jax.nn.logsumexp(s, axis=-1))
        mask = batch["mask"].astype(jnp.float32)
        values = jnp.stack([0.5 * ce, kl, -0.25 * ce, z])
        return jnp.einsum("nbt,bt->n", values, mask) / jnp.sum(mask)

    jacobian = jax.jit(jax.jacrev(terms))(state.params["student"])
    flat = jax.tree_util.tree_leaves_with_path(jacobian)
    for part in ("trunk", "head"):
        rows = np.concatenate(
            [
                np.asarray(x, np.float64).reshape(len(TERMS), -1)
                for path, x in flat
                if (path[0].key == "embedding") == (part == "head")
            ],
            axis=1,
        )
        inner = rows @ rows.T
        np.testing.assert_allclose(
            found.inner[part], inner, rtol=1e-3, atol=1e-5 * np.max(np.abs(inner))
        )


def test_a_term_against_another_is_a_conflict_in_every_part(whole):
    found, *_ = whole
    worst = found.conflicts()[:2]
    assert {x.part for x in worst} == {"trunk", "head"}
    for conflict in worst:
        assert conflict.terms == ("ce", "contrary")
        np.testing.assert_allclose(conflict.cosine, -1.0, atol=1e-5)


def test_student_and_teacher_are_compared_by_their_formulas(whole, plain):
    found, *_ = whole
    s, t, targets = plain
    log_q, log_p = (x - scipy.special.logsumexp(x, -1, keepdims=True) for x in (s, t))
    q, p = np.exp(log_q), np.exp(log_p)
    best = np.argsort(-t, axis=-1)[:, :5]
    expected = {
        "kl": np.mean(np.sum(p * (log_p - log_q), -1)),
        "student_entropy": np.mean(-np.sum(q * log_q, -1)),
        "teacher_entropy": np.mean(-np.sum(p * log_p, -1)),
        "agreement": np.mean(np.argmax(s, -1) == np.argmax(t, -1)),
        "mass_on_best": np.mean(np.sum(np.take_along_axis(q, best, -1), -1)),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(
            found.scalars[name], value, rtol=1e-4, atol=1e-6, err_msg=name
        )
    top, right = np.max(q, -1), np.argmax(s, -1) == targets
    bins = np.minimum((top * 15).astype(int), 14)
    gaps = [abs(np.sum(right[bins == b]) - np.sum(top[bins == b])) for b in range(15)]
    error = np.sum(gaps) / len(top)
    np.testing.assert_allclose(found.scalars["calibration_error"], error, atol=1e-5)


@pytest.mark.slow  # a gradient of every term, of a batch that is cut
def test_a_diagnosis_is_the_same_however_the_batch_is_cut(world, whole):
    expected, *_ = whole
    cut, *_ = diagnosed(
        world,
        mesh=runtime.Mesh(data=2, tensor=4),
        head=in_blocks(7, examples.VOCABULARY),
        microbatches=2,
    )
    for part, inner in expected.inner.items():
        np.testing.assert_allclose(
            cut.inner[part], inner, rtol=1e-3, atol=1e-5 * np.max(np.abs(inner))
        )
    for name, value in expected.scalars.items():
        np.testing.assert_allclose(
            cut.scalars[name], value, rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_a_mixture_shows_its_load_and_how_sure_its_router_is(whole):
    found, setup, state, batch = whole
    state, batch = jax.device_get((state, batch))
    model = setup.modules.student(state.params["student"], state.variables["student"])
    capture = frozenset({"router_logits", "router_assignments"})
    trunk = jax.jit(lambda model, rows: model.trunk(rows, capture=capture))
    seen = trunk(model, batch).intermediates
    real = batch["segment_ids"] > 0
    chosen = np.asarray(seen["router_assignments"])[real].reshape(-1)
    np.testing.assert_array_equal(found.expert_load, [np.bincount(chosen, minlength=4)])
    logits = np.asarray(seen["router_logits"], np.float64)[real]
    p = scipy.special.softmax(logits, axis=-1)
    np.testing.assert_allclose(
        found.scalars["router_entropy"], np.mean(-np.sum(p * np.log(p), -1)), rtol=1e-5
    )
    assert found.scalars["unused_experts"] == 0.0


def test_a_gradient_of_zero_has_no_cosine():
    found = Diagnosis(
        terms=("a", "b", "c"),
        inner={
            "trunk": np.array([[4.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        },
        scalars={},
        expert_load=None,
    )
    np.testing.assert_array_equal(found.norms("trunk"), [2.0, 1.0, 0.0])
    assert found.conflicts() == [Conflict("trunk", ("a", "b"), -0.5)]
    assert np.isnan(found.cosines("trunk")[2]).all()
