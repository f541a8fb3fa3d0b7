"""Evaluation metrics against float64 NumPy on the same logits."""

import collections
import functools
import importlib
import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm
from losses.core.term_values import evaluate
from runner import runtime
from runner.errors import UserError
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.evaluator import Evaluator
from runner.evaluation.held_out import HeldOutTerms
from runner.evaluation.prediction_metrics import BINS
from tests.runner.evaluation.evaluated import TERMS, prepare
from tests.runner.evaluation.held_out import (
    BATCH,
    TEXT,
    all_rows,
    assert_equal,
    log_normalizer,
    of_targets,
)

OWN = """
import dataclasses

import jax.numpy as jnp

import losses


@dataclasses.dataclass(frozen=True)
class RankOfTarget(losses.Loss):
    needs = frozenset({"logits"})

    def __call__(self, outputs):
        above = outputs.logits > outputs.target_logits()[..., None]
        return jnp.sum(above, axis=-1).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Named(RankOfTarget):
    name = "even_rank"
    @staticmethod
    def default_mask(batch):
        return batch["mask"] & (batch["targets"] % 2 == 0)


@dataclasses.dataclass(frozen=True)
class Deep(RankOfTarget):
    needs = frozenset({"hidden/7"})
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A module of somebody's, in no package of ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "my_metrics.py").write_text(OWN)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("my_metrics")
    sys.path.remove(str(folder))
    del sys.modules["my_metrics"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, own):
    metrics = [own.RankOfTarget(), own.Named(), losses.ReverseKL()]
    return prepare(tmp_path_factory.mktemp("text"), metrics)


@pytest.fixture(scope="module")
def measured(evaluated):
    evaluator, _, state = evaluated
    return evaluator(state)


def sides(state):
    student = {"params": state.params, "variables": state.variables}
    student = {part: trees["student"] for part, trees in student.items()}
    return jax.device_get(student), jax.device_get(state.teacher)


def reference(modules, arrays, batch):
    """Over every row at once, from the same logits."""
    logits, targets = of_targets(modules, arrays, batch)
    q = np.exp(logits - logits.max(-1, keepdims=True))
    q /= q.sum(-1, keepdims=True)
    nats = -np.log(q[np.arange(len(targets)), targets])
    confidence, correct = q.max(-1), q.argmax(-1) == targets
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(correct[which == b].mean() - confidence[which == b].mean())
        * np.mean(which == b)
        for b in np.unique(which)
    ]
    return {
        "loss": nats.mean(),
        "perplexity": math.exp(nats.mean()),
        "accuracy": correct.mean(),
        "calibration_error": sum(gaps),
        "bits_per_byte": nats.sum() / math.log(2) / (2 * len(TEXT)),
    }


# dear: compiles the evaluation that the tests below read too
def test_metrics_are_those_of_numpy_over_the_whole_split(measured, evaluated):
    evaluator, modules, state = evaluated
    student, teacher = sides(state)
    batch = all_rows(evaluator.dataset)
    assert_equal(measured, reference(modules, student, batch))
    of_teacher = reference(modules, teacher, batch)
    assert_equal(measured, {f"teacher/{k}": v for k, v in of_teacher.items()})
    assert measured["share"] == 1.0


def test_terms_are_means_over_their_tokens_without_weights(measured, evaluated):
    evaluator, modules, state = evaluated
    batch = all_rows(evaluator.dataset)
    (student, targets), (teacher, _) = (
        of_targets(modules, arrays, batch) for arrays in sides(state)
    )
    log_p, log_q = (x - log_normalizer(x)[:, None] for x in (teacher, student))
    expected = {
        "terms/ce": measured["loss"],
        "terms/spans": -log_q[np.arange(len(targets)), targets][
            targets % 2 == 0
        ].mean(),
        "terms/z_loss": np.square(log_normalizer(student)).mean(),
        "terms/kl": np.sum(np.exp(log_p) * (log_p - log_q), -1).mean(),
        "teacher/terms/z_loss": np.square(log_normalizer(teacher)).mean(),
    }
    assert_equal(measured, expected)
    assert measured.keys() >= {f"terms/{term.name}" for term in TERMS}
    of_teacher = {n for n in measured if n.startswith("teacher/terms/")}
    assert of_teacher == {f"teacher/terms/{n}" for n in ("ce", "spans", "z_loss")}


# dear: compiles an evaluation in blocks of whole rows
def test_blocks_of_whole_rows_measure_what_blocks_of_tokens_do(
    measured, tmp_path_factory
):
    by_rows = LossTerm(name="by_rows", loss=losses.SequenceLoadBalance())
    folder = tmp_path_factory.mktemp("by_rows")
    evaluator, _, state = prepare(folder, (), (*TERMS[:2], by_rows))
    in_rows = evaluator(state)
    same = {"loss", "accuracy", "calibration_error", "terms/spans"}
    assert_equal(in_rows, {name: measured[name] for name in same})


def test_student_and_teacher_are_compared_over_the_targets(measured, evaluated):
    evaluator, modules, state = evaluated
    batch = all_rows(evaluator.dataset)
    (student, _), (teacher, _) = (
        of_targets(modules, arrays, batch) for arrays in sides(state)
    )
    log_p, log_q = (x - log_normalizer(x)[:, None] for x in (teacher, student))
    assert_equal(
        measured,
        {
            "kl": np.sum(np.exp(log_p) * (log_p - log_q), -1).mean(),
            "agreement": np.mean(log_p.argmax(-1) == log_q.argmax(-1)),
            "metrics/reverse_kl": np.sum(np.exp(log_q) * (log_q - log_p), -1).mean(),
        },
    )


def test_custom_metrics_are_means_of_student_and_teacher(measured, evaluated):
    evaluator, modules, state = evaluated
    for arrays, prefix in zip(sides(state), ("", "teacher/"), strict=True):
        logits, targets = of_targets(modules, arrays, all_rows(evaluator.dataset))
        rank = np.sum(logits > logits[np.arange(len(targets)), targets][:, None], -1)
        expected = {
            f"{prefix}metrics/rank_of_target": rank.mean(),
            f"{prefix}metrics/even_rank": rank[targets % 2 == 0].mean(),
        }
        assert_equal(measured, expected)


def test_the_names_of_the_metrics_are_known_before_any_is_measured(measured, evaluated):
    evaluator, modules, _ = evaluated
    state = jax.eval_shape(modules.initial, jax.random.key(0))
    assert {*evaluator.names(state), "share"} == set(measured)


def test_looking_ahead_is_the_trace_that_is_measured(measured, evaluated, monkeypatch):
    del measured
    evaluator, _, state = evaluated
    monkeypatch.delattr(HeldOutTerms, "sums")  # which a second trace would call
    evaluator.trace(state)


def test_a_metric_that_the_student_cannot_serve_is_named(evaluated, own):
    evaluator, _, _ = evaluated
    held_out = types.SimpleNamespace(load=lambda cache: evaluator.dataset)
    evaluation = Evaluation(
        name="held_out", data=held_out, batch_size=BATCH, metrics=[own.Deep()]
    )
    with pytest.raises(UserError, match=r"^evaluations\.held_out\.metrics\.deep: Deep"):
        Evaluator(evaluation, evaluator._step, config=runtime.Runtime())


def test_a_metric_that_does_not_fit_is_one_line_before_any_is_measured(evaluated):
    evaluator, _, state = evaluated
    held_out = types.SimpleNamespace(load=lambda cache: evaluator.dataset)
    wrong = losses.ClassBias(loss=losses.CrossEntropy(), first=10**6)
    evaluation = Evaluation(
        name="held_out", data=held_out, batch_size=BATCH, metrics=[wrong]
    )
    evaluator = Evaluator(evaluation, evaluator._step, config=runtime.Runtime())
    with pytest.raises(UserError, match=r"^evaluations\.held_out: ClassBias: first=1"):
        evaluator.trace(state)


# dear: compiles a mixture of experts
def test_terms_of_routers_are_those_of_whole_batches(measured, evaluated):
    """Of each batch by itself, without the rows that fill up the last one."""
    evaluator, modules, state = evaluated
    (arrays, _), batch = sides(state), all_rows(evaluator.dataset)
    model = modules.student(arrays["params"], arrays["variables"])
    paths = frozenset({"router_logits", "router_assignments"})
    routers = [term for term in TERMS if term.name.startswith("router")]
    routed = jax.jit(lambda: model.trunk(batch, capture=paths).intermediates)()

    @jax.jit
    def averages(batch, routed):
        logits = jnp.zeros((*batch["mask"].shape, 1))
        return evaluate(
            routers,
            losses.FullOutputs(batch=batch, logits=logits, intermediates=routed),
        )

    totals = collections.Counter()
    for first in range(0, len(evaluator.dataset), BATCH):
        rows = functools.partial(
            jax.tree.map, lambda x, at=first: jnp.asarray(x[at : at + BATCH])
        )
        for name, average in averages(rows(batch), rows(routed)).items():
            totals[name] += float(average.total)
            totals[f"count of {name}"] += float(average.count)
    for name in ("router_z", "router_balance"):
        expected = totals[name] / totals[f"count of {name}"]
        assert measured[f"terms/{name}"] == pytest.approx(expected, rel=1e-4), name
    assert len(evaluator.dataset) % BATCH


def test_a_limit_reads_only_some_rows(evaluated):
    evaluator, _, state = evaluated
    part = evaluator(state, limit=1)
    assert part["loss"] != evaluator(state)["loss"]
    assert part["share"] == pytest.approx(BATCH / len(evaluator.dataset))
