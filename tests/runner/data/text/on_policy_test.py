"""`OnPolicy` around data: what it declares, and where it is refused."""

import dataclasses
import functools

import fiddle as fdl
import jax
import numpy as np
import optax
import pytest

import losses
import models
import runner
from runner import data
from runner.errors import UserError
from runner.state.trainable import TrainModules
from runner.step.rollouts import CompiledRollouts
from runner.teachers.base import Teacher
from tests.runner.teachers import examples


@pytest.fixture(name="corpus", scope="module")
def _corpus(tmp_path_factory):
    return examples.source(tmp_path_factory.mktemp("own"))


def node(corpus, **fields):
    return fdl.Config(data.OnPolicy, data=corpus, **fields)


def test_the_rows_are_those_of_the_data_until_the_student_writes(corpus):
    plain = fdl.build(corpus).load()
    dataset = fdl.build(node(corpus, fraction=0.25, max_new_tokens=99)).load()
    assert dataset.fingerprint == plain.fingerprint
    rows = dataset.rows(np.arange(3))
    np.testing.assert_array_equal(rows.pop("own"), [False] * 3)
    for name, x in plain.rows(np.arange(3)).items():
        np.testing.assert_array_equal(rows[name], x)
    described = dataset.describe_all()["on_policy"]
    assert (described["fraction"], described["max_new_tokens"]) == (0.25, 12)
    assert "on_policy" not in plain.describe_all()


def test_it_stands_around_the_whole_of_the_training_data_alone(corpus):
    mixed = data.Mixture(data=[fdl.build(node(corpus))], weights=[1])
    with pytest.raises(UserError, match=r"data\[0\] of a mixture: OnPolicy belongs"):
        mixed.load()
    with pytest.raises(UserError, match="OnPolicy is OnPolicy itself"):
        fdl.build(node(node(corpus))).load()
    with pytest.raises(UserError, match="prompt_tokens is 13, a row has 12 tokens"):
        fdl.build(node(corpus, prompt_tokens=13)).load()


@pytest.mark.slow
def test_an_evaluation_reads_what_the_student_writes_after_held_out_prompts(corpus):
    greedy = node(corpus, temperature=0.0, prompt_tokens=4, max_new_tokens=5)
    experiment = examples.experiment(corpus, None, terms=examples.kd()[:1])
    experiment = dataclasses.replace(
        experiment,
        evaluations=[
            runner.Evaluation(name="own", data=fdl.build(greedy), batch_size=8)
        ],
    )
    setup = examples.ready(experiment)
    metrics = setup.evaluate("own", setup.initial_state())
    assert metrics["accuracy"] == 1.0  # each token is the one that it takes for best
    assert 0.0 < metrics["loss"] < np.log(300)
    assert "bits_per_byte" not in metrics  # the text is not that of the data


@pytest.mark.slow
def test_rows_are_written_by_the_weights_of_the_last_renewal(corpus):
    old = node(corpus, temperature=0.0, max_new_tokens=3, refresh_every=2)
    experiment = examples.experiment(old, None, terms=examples.kd()[:1])
    setup = examples.ready(experiment)
    leaves = jax.tree.leaves(setup.initial_state())
    before: list = []
    with setup.batches(start=0) as batches:
        for step in range(4):
            state = setup.step.unflatten(leaves)
            before.append(jax.device_get((state.params, state.variables)))
            batch = next(batches)
            rows, _ = setup.with_rollouts(leaves, batch)
            params, variables = before[step - step % 2]
            expected, _ = setup.rollouts.write(params, variables, batch, step)
            np.testing.assert_array_equal(rows["tokens"], expected["tokens"])
            author = jax.device_get(state.memory["author"]["params"])
            jax.tree.map(
                np.testing.assert_array_equal,
                author,
                before[step - step % 2][0]["student"],
            )
            leaves, _ = setup.step(leaves, rows)


def test_terms_of_rows_that_nobody_writes_are_refused(corpus):
    """They would count nothing, and the rest of the objective alone would learn."""
    written = node(corpus, max_new_tokens=2)
    term = losses.LossTerm(name="own", loss=losses.CrossEntropy(), mask=losses.own_mask)
    alone = examples.experiment(corpus, None, terms=[term])
    with pytest.raises(UserError, match=r"losses.own: CrossEntropy counts the rows"):
        examples.ready(alone)
    examples.ready(examples.experiment(written, None, terms=[term]))
    metric = dataclasses.replace(term, weight=0.0)
    examples.ready(dataclasses.replace(alone, losses=[metric]))


def test_records_and_students_of_no_text_are_refused(corpus):
    experiment = examples.experiment(node(corpus), None, terms=examples.kd()[:1])
    records = dataclasses.replace(experiment, teacher=Recorded())
    with pytest.raises(UserError, match="teacher: records hold nothing of the rows"):
        examples.ready(records)
    modules = TrainModules(
        functools.partial(models.ConvNet, num_classes=3), (), optax.sgd(1.0)
    )
    with pytest.raises(UserError, match="a ConvNet writes no text, OnPolicy wants"):
        CompiledRollouts(modules, None, mesh=None, rules=(), seed=0)


def test_a_teacher_that_gives_no_next_token_is_refused(corpus):
    mixed = node(corpus, teacher_share=0.2, max_new_tokens=2)
    experiment = examples.experiment(mixed, None, terms=examples.kd()[:1])
    wanted = "teacher_share wants a teacher that can be asked for a next token"
    with pytest.raises(UserError, match=f"{wanted}, .*; there is no teacher$"):
        examples.ready(experiment)
    both = runner.EnsembleTeacher(teachers=[runner.EMATeacher()] * 2)
    with pytest.raises(UserError, match=f"{wanted}, .*; there is ensemble$"):
        examples.ready(dataclasses.replace(experiment, teacher=both))
    examples.ready(dataclasses.replace(experiment, teacher=runner.EMATeacher()))


@dataclasses.dataclass(frozen=True)
class Recorded(Teacher):
    """Stands in for a teacher of records."""

    stored = losses.RecordSpec(mode="top_k", temperatures=(1.0,))

    def check(self):
        pass

    def load(self, context):
        return self


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fraction": 1.5}, r"fraction must be in \[0, 1\], got 1.5"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"refresh_every": 0}, "refresh_every must be at least 1, got 0"),
        ({"at_once": 0}, "at_once must be at least 1, got 0"),
        ({"prompt_tokens": 0}, "prompt_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must not be negative, got -1.0"),
        ({"top_p": 0.0}, "top_p must be above 0, at most 1, got 0.0"),
        ({"teacher_share": 1.0}, r"teacher_share must be in \[0, 1\), got 1.0"),
        ({"teacher_share": 0.2, "top_k": 3}, "teacher_share mixes whole distributions"),
    ],
)
def test_a_number_out_of_range_is_refused(corpus, fields, message):
    with pytest.raises(ValueError, match=message):
        fdl.build(node(corpus, **fields))
