"""Models combined into one teacher: their formulas, gradients and cautions."""

import fiddle as fdl
import jax
import numpy as np
import pytest

from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    FusedTeacher,
    OnlineTeacher,
)
from tests.runner.teachers import examples
from tests.runner.teachers.examples import experiment, gradients
from tests.runner.teachers.textbook import (
    assert_same,
    expected,
    logits_alone,
    softmax,
    teacher_logits,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


@pytest.fixture(scope="module")
def runs(folder, corpus):
    """Three trained teachers."""
    dataset = fdl.build(corpus).load()
    return [
        str(examples.write_run(folder / f"run-{seed}", dataset, seed=seed))
        for seed in range(3)
    ]


COMBINED = {
    "mean of probabilities": (
        lambda a, b, c: EnsembleTeacher(teachers=[a, b], weights=[3.0, 1.0]),
        lambda a, b, c: 0.75 * softmax(a) + 0.25 * softmax(b),
    ),
    "mean of logits": (
        lambda a, b, c: EnsembleTeacher(teachers=[a, b], average="logits"),
        lambda a, b, c: softmax((a + b) / 2),
    ),
    "fused": (
        lambda a, b, c: FusedTeacher(base=a, expert=b, antiexpert=c, scale=0.7),
        lambda a, b, c: softmax(a + 0.7 * (b - c)),
    ),
}


@pytest.fixture(scope="module")
def logits_of_members(corpus, runs):
    return [logits_alone(OnlineTeacher(checkpoint=run), corpus) for run in runs]


@pytest.mark.parametrize(("make", "mixed"), COMBINED.values(), ids=COMBINED)
def test_teachers_combine_as_their_formula_says(
    corpus, runs, logits_of_members, make, mixed
):
    members = [OnlineTeacher(checkpoint=run) for run in runs]
    np.testing.assert_allclose(
        softmax(logits_alone(make(*members), corpus)),
        mixed(*logits_of_members),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.slow  # `test_teachers_combine_as_their_formula_says` has no step
def test_a_mixture_is_the_mean_of_probabilities(corpus, runs):
    members = [OnlineTeacher(checkpoint=run) for run in runs[:2]]
    teacher = EnsembleTeacher(teachers=members, weights=[3.0, 1.0])
    (params, total, _), batch, ready = gradients(experiment(corpus, teacher))
    one, other = (teacher_logits(run, batch, ready) for run in runs[:2])
    mixed = np.log(0.75 * softmax(one) + 0.25 * softmax(other))
    assert_same((params, total), expected(ready, batch, mixed))


@pytest.mark.slow  # `test_teachers_combine_as_their_formula_says` has no step
def test_a_mean_of_logits_is_one(corpus, runs):
    members = [OnlineTeacher(checkpoint=run) for run in runs[:2]]
    teacher = EnsembleTeacher(teachers=members, average="logits")
    (params, total, _), batch, ready = gradients(experiment(corpus, teacher))
    one, other = (teacher_logits(run, batch, ready) for run in runs[:2])
    assert_same((params, total), expected(ready, batch, (one + other) / 2))


@pytest.mark.slow  # `test_teachers_combine_as_their_formula_says` has no step
def test_fused_teachers_add_the_gap_of_expert_and_antiexpert(corpus, runs):
    base, expert, antiexpert = (OnlineTeacher(checkpoint=run) for run in runs)
    teacher = FusedTeacher(base=base, expert=expert, antiexpert=antiexpert, scale=0.7)
    (params, total, _), batch, ready = gradients(experiment(corpus, teacher))
    a, b, c = (teacher_logits(run, batch, ready) for run in runs)
    assert_same((params, total), expected(ready, batch, a + 0.7 * (b - c)))


def test_an_ensemble_may_hold_an_average_of_the_student(corpus, runs):
    members = [OnlineTeacher(checkpoint=runs[0]), EMATeacher()]
    ready = examples.ready(experiment(corpus, EnsembleTeacher(teachers=members)))
    leaves = jax.tree.leaves(ready.initial_state())
    with ready.batches(start=0) as batches:
        leaves, metrics = ready.step(leaves, next(batches))
    state = ready.step.unflatten(leaves)
    assert not state.teacher["teachers[0]"]
    assert state.teacher["teachers[1]"]["params"].keys() == {
        "blocks",
        "embedding",
        "norm",
    }
    assert np.isfinite(metrics["learning/kd"].compute())


def test_rows_longer_than_the_context_of_a_teacher_give_a_caution(folder, corpus, runs):
    teacher = EnsembleTeacher(teachers=[OnlineTeacher(checkpoint=run) for run in runs])
    assert examples.ready(experiment(corpus, teacher)).cautions == ()
    longer = examples.source(folder / "text", length=16)
    cautions = examples.ready(experiment(longer, teacher)).cautions
    assert [text.split(",")[0] for text in cautions] == [
        f"teacher {run}: rows of 16 positions" for run in runs
    ]
