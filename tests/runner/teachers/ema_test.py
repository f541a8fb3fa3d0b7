"""A moving average of the student as its teacher."""

import jax
import numpy as np
import pytest

from runner.teachers import EMATeacher
from tests.runner.teachers import examples
from tests.runner.teachers.examples import experiment, gradients
from tests.runner.teachers.textbook import assert_same


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


def test_an_average_starts_as_the_student_and_follows_it(corpus):
    ready = examples.ready(experiment(corpus, EMATeacher(decay=0.3)))
    state = ready.initial_state()
    leaves = jax.tree.leaves(state)
    average = jax.device_get(state.params["student"])
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(state.teacher["params"]),
        average,
    )
    with ready.batches(start=0) as batches:
        for step in range(1, 4):
            leaves, _ = ready.step(leaves, next(batches))
            state = ready.step.unflatten(leaves)
            decay = min(0.3, (1 + step) / (10 + step))
            decayed = jax.tree.map(lambda old, d=decay: d * old, average)
            new = jax.device_get(state.params["student"])
            average = jax.tree.map(
                lambda old, new, d=decay: old + (1 - d) * new, decayed, new
            )
            assert_same(jax.device_get(state.teacher["params"]), average)


def test_the_divergence_from_the_average_starts_at_zero(corpus):
    (_, _, terms), _, _ = gradients(experiment(corpus, EMATeacher()))
    assert terms["kd"].total == pytest.approx(0.0, abs=1e-4)
