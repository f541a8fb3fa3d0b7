"""Teachers that terms read by name."""

import fiddle as fdl
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm
from runner.teachers import LoadedTeacher, NamedTeachers, OnlineTeacher, TeacherTrunk
from runner.teachers.named.teachers import LoadedNamed
from tests.runner.teachers import examples
from tests.runner.teachers.textbook import (
    assert_same,
    expected,
    softmax,
    teacher_logits,
)

LOGITS = np.random.default_rng(2).normal(size=(3, 4, 6)).astype(np.float32)
STUDENT, OLD, NEW = LOGITS
TARGETS = np.array([0, 1, 2, 5], np.int32)


class Shown(LoadedTeacher):
    """A teacher of these logits and a hidden state, which runs where it is read."""

    def __init__(self, logits, *, runs):
        self._logits, self._runs = jnp.asarray(logits), runs

    def offers(self):
        return frozenset({"hidden/0"})

    def trunk(self, frozen, ema, batch, *, capture, logits):
        assert self._runs
        outputs = losses.TeacherOutputs(
            logits=self._logits if logits else None,
            intermediates={path: self._logits[..., :2] for path in capture},
        )
        return TeacherTrunk(tokens={}, head_params={}, outputs=lambda *_: outputs)

    def describe(self):
        return {}


def read(capture, *, logits=False, both=True):
    members = {"old": Shown(OLD, runs=True), "new": Shown(NEW, runs=both)}
    loaded = LoadedNamed(members)
    assert loaded.offers() >= capture
    trunk = loaded.trunk({"old": {}, "new": {}}, {}, {}, capture=capture, logits=logits)
    return trunk.outputs(trunk.head_params, trunk.tokens, {})


def test_each_term_reads_the_teacher_that_it_names():
    terms = [
        losses.OfTeacher(
            loss=losses.ForwardKL(temperature=5.0), teacher="old", classes=3
        ),
        losses.OfTeacher(loss=losses.ForwardKL(temperature=5.0), teacher="new"),
    ]
    weight = losses.TeacherCorrect(teacher="old")
    needs = weight.needs.union(*(term.needs for term in terms)) - {"logits"}
    teacher = read(frozenset(x.removeprefix("teacher/") for x in needs))
    outputs = losses.FullOutputs(
        batch={"targets": TARGETS, "mask": TARGETS >= 0},
        logits=STUDENT,
        teacher=teacher,
    )
    for term, given, width in zip(terms, (OLD, NEW), (3, 6), strict=True):
        p, log_q = (
            softmax(np.float64(given[:, :width]) / 5),
            softmax(np.float64(STUDENT[:, :width]) / 5),
        )
        kl = np.sum(p * (np.log(p) - np.log(log_q)), -1)
        np.testing.assert_allclose(term(outputs), kl, rtol=1e-4, atol=1e-7)
    flip = losses.OfTeacher(loss=losses.PositiveFlip(), teacher="new", classes=3)
    mends, knows = (np.argmax(x[:, :3], -1) == TARGETS for x in (STUDENT, NEW))
    assert (mends & ~knows).sum() != (np.argmax(STUDENT, -1) == TARGETS)[~knows].sum()
    np.testing.assert_array_equal(flip(outputs), mends & ~knows)
    right = np.argmax(OLD, -1) == TARGETS
    np.testing.assert_array_equal(weight(outputs), 1 + 5 * right)


@pytest.mark.slow  # the test above reads both
def test_one_that_no_term_reads_does_not_run_and_a_name_that_is_none_is_refused():
    first = read(frozenset({"old/hidden/0"}), logits=True, both=False)
    assert first.logits is not None
    np.testing.assert_array_equal(first.logits, OLD)
    assert first.intermediates.keys() == {"old/hidden/0"}
    with pytest.raises(ValueError, match="identifiers, got 'a b'"):
        NamedTeachers(teachers={"a b": OnlineTeacher(checkpoint="x")})
    with pytest.raises(ValueError, match="that reads a teacher, got CrossEntropy"):
        losses.OfTeacher(loss=losses.CrossEntropy(), teacher="old")


@pytest.mark.slow  # whole steps, of two teachers
def test_two_teachers_at_once_teach_as_their_mean_does(tmp_path):
    corpus = examples.source(tmp_path / "text")
    dataset = fdl.build(corpus).load()
    runs = [
        str(examples.write_run(tmp_path / f"run-{i}", dataset, seed=i)) for i in (1, 2)
    ]
    teachers = {f"t{i}": OnlineTeacher(checkpoint=run) for i, run in enumerate(runs)}
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy(), weight=0.5)] + [
        LossTerm(
            name=name,
            loss=losses.OfTeacher(loss=losses.ForwardKL(), teacher=name),
            weight=0.5,
        )
        for name in teachers
    ]
    cfg = examples.experiment(corpus, NamedTeachers(teachers=teachers), terms=terms)
    (params, _, _), batch, ready = examples.gradients(cfg)
    mean = np.mean([softmax(teacher_logits(x, batch, ready)) for x in runs], axis=0)
    assert_same(params, expected(ready, batch, np.log(mean))[0])
