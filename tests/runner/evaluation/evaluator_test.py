"""Evaluation metrics against float64 NumPy on the same logits."""

import collections
import dataclasses
import functools
import importlib
import math
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from losses.core.term_values import evaluate
from models import MoE, Transformer
from runner import data, runtime
from runner.errors import UserError
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.evaluator import Evaluator, gap_closed, metrics
from runner.evaluation.prediction_metrics import BINS
from runner.machine import mesh as mesh_lib
from runner.records.format import Layout, encode_batch
from runner.records.reader import Records
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.teachers import EMATeacher, TeacherContext
from runner.teachers.base import LoadedTeacher
from runner.teachers.offline import LoadedRecords
from runner.train.trainer import Trainer
from tests.heads import in_blocks
from tests.runner.records import sets

BATCH = 8


def even(batch):
    """Count the targets whose id is even."""
    return batch["mask"] & (batch["targets"] % 2 == 0)


TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="spans", loss=losses.CrossEntropy(), mask=even, weight=3.0),
    LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
    LossTerm(
        name="kl",
        loss=losses.ForwardKL(),
        weight=losses.MatchValue(to="ce"),
        token_weight=losses.Position(last=3),
    ),
    LossTerm(name="router_z", loss=losses.RouterZLoss(), mask=losses.token_mask),
    LossTerm(name="router_balance", loss=losses.LoadBalance(), mask=losses.token_mask),
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
TEXT = "A loss answers with one value per token, and divides by nothing at all. " * 9


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
def made(tmp_path_factory, own):
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text(TEXT[::-1])
    documents = data.TextFiles(files=[str(folder / "*.txt")])
    tokenizer = data.ByteBPE(documents=documents, vocab_size=300)
    source = data.TokenizedText(
        documents=documents, tokenizer=tokenizer, sequence_length=24
    )
    student = functools.partial(
        Transformer,
        vocab_size=300,
        dim=16,
        num_layers=1,
        num_heads=2,
        mlp=functools.partial(MoE, num_experts=4),
    )
    teacher = EMATeacher()
    modules = TrainModules(student, TERMS, optax.sgd(1.0), teacher.init_state)
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=4, tensor=2),
        head=in_blocks(10, 300, planes=2),
        input=runtime.Input(cache=str(folder / "cache")),
    )
    mesh = mesh_lib.make(config.mesh)
    dataset = source.load(cache=config.input.cache)
    context = TeacherContext(
        vocabulary=dataset.vocabulary,
        mesh=mesh,
        rules=config.mesh.rules,
        modules=modules,
    )
    step = CompiledStep(
        modules,
        mesh=mesh,
        config=config,
        seed=0,
        teacher=teacher.load(context),
        teacher_node=teacher,
    )
    evaluation = Evaluation(
        name="held_out",
        data=source,
        batch_size=BATCH,
        metrics=[own.RankOfTarget(), own.Named(), losses.ReverseKL()],
    )
    evaluator = Evaluator(evaluation, step, config=config)
    state = modules.create(0, mesh, config.mesh.rules)
    state.params["student"]["output"] *= 8.0
    state.teacher["params"]["output"] *= 5.0
    return evaluator, modules, state


@pytest.fixture(scope="module")
def measured(made):
    evaluator, _, state = made
    return evaluator(state)


def all_rows(evaluator):
    dataset = evaluator.dataset
    rows = [dataset[i] for i in range(len(dataset))]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def of_targets(modules, arrays, batch):
    """Return logits of the targets, float64, and the targets."""
    model = modules.student(arrays["params"], arrays["variables"])
    logits = np.asarray(model.head(model.trunk(batch).hidden), np.float64)
    mask = batch["mask"].reshape(-1)
    return logits.reshape(-1, 300)[mask], batch["targets"].reshape(-1)[mask]


def sides(state):
    student = {"params": state.params, "variables": state.variables}
    student = {part: trees["student"] for part, trees in student.items()}
    return jax.device_get(student), jax.device_get(state.teacher)


def log_normalizer(logits):
    return np.log(np.sum(np.exp(logits), -1))


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


def assert_equal(measured, expected):
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


# dear: compiles the evaluation that the tests below read too
def test_metrics_are_those_of_numpy_over_the_whole_split(measured, made):
    evaluator, modules, state = made
    student, teacher = sides(state)
    batch = all_rows(evaluator)
    assert_equal(measured, reference(modules, student, batch))
    of_teacher = reference(modules, teacher, batch)
    assert_equal(measured, {f"teacher/{k}": v for k, v in of_teacher.items()})
    assert measured["share"] == 1.0


def test_terms_are_means_over_their_tokens_without_weights(measured, made):
    evaluator, modules, state = made
    (student, targets), (teacher, _) = (
        of_targets(modules, arrays, all_rows(evaluator)) for arrays in sides(state)
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


def test_student_and_teacher_are_compared_over_the_targets(measured, made):
    evaluator, modules, state = made
    (student, _), (teacher, _) = (
        of_targets(modules, arrays, all_rows(evaluator)) for arrays in sides(state)
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


def test_metrics_of_ones_own_are_means_of_student_and_teacher(measured, made):
    evaluator, modules, state = made
    for arrays, prefix in zip(sides(state), ("", "teacher/"), strict=True):
        logits, targets = of_targets(modules, arrays, all_rows(evaluator))
        rank = np.sum(logits > logits[np.arange(len(targets)), targets][:, None], -1)
        expected = {
            f"{prefix}metrics/rank_of_target": rank.mean(),
            f"{prefix}metrics/even_rank": rank[targets % 2 == 0].mean(),
        }
        assert_equal(measured, expected)


def test_the_names_of_the_metrics_are_known_before_any_is_measured(measured, made):
    evaluator, modules, _ = made
    state = jax.eval_shape(modules.initial, jax.random.key(0))
    assert {*evaluator.names(state), "share"} == set(measured)


def test_a_metric_that_the_student_cannot_serve_is_named_where_it_stands(made, own):
    evaluator, _, _ = made
    source = types.SimpleNamespace(load=lambda cache: evaluator.dataset)
    evaluation = Evaluation(
        name="held_out", data=source, batch_size=BATCH, metrics=[own.Deep()]
    )
    with pytest.raises(UserError, match=r"^evaluations\.held_out\.metrics\.deep: Deep"):
        Evaluator(evaluation, evaluator._step, config=runtime.Runtime())


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([losses.ZLoss(), losses.ZLoss()], "two metrics are named 'z_loss'; give one"),
        ([3], "metrics must be losses without parameters, got 3"),
    ],
)
def test_metrics_that_cannot_be_told_apart_are_refused(metrics, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(name="held_out", data=None, batch_size=1, metrics=metrics)


def test_the_share_of_the_gap_is_0_at_the_start_and_1_at_the_teacher():
    shares = [gap_closed(x, start=5.0, teacher=3.0) for x in (5.0, 4.0, 3.0, 2.0, 6.0)]
    assert shares == [0.0, 0.5, 1.0, 1.5, -0.5]
    assert gap_closed(4.0, start=3.0, teacher=3.0) is None
    assert gap_closed(3.5, start=3.0, teacher=4.0) is None


# dear: compiles a mixture of experts
def test_terms_of_routers_are_those_of_whole_batches(measured, made):
    """Of each batch by itself, without the rows that fill up the last one."""
    evaluator, modules, state = made
    (arrays, _), batch = sides(state), all_rows(evaluator)
    model = modules.student(arrays["params"], arrays["variables"])
    paths = frozenset({"router_logits", "router_assignments"})
    routers = [term for term in TERMS if term.name.startswith("router")]
    routed = jax.jit(lambda: model.trunk(batch, capture=paths).intermediates)()
    totals = collections.Counter()
    for first in range(0, len(evaluator.dataset), BATCH):
        rows = functools.partial(
            jax.tree.map, lambda x, at=first: jnp.asarray(x[at : at + BATCH])
        )
        outputs = losses.FullOutputs(
            batch=rows(batch),
            logits=jnp.zeros((*rows(batch)["mask"].shape, 1)),
            intermediates=rows(routed),
        )
        for name, average in evaluate(routers, outputs).items():
            totals[name] += float(average.total)
            totals[f"count of {name}"] += float(average.count)
    for name in ("router_z", "router_balance"):
        expected = totals[name] / totals[f"count of {name}"]
        assert measured[f"terms/{name}"] == pytest.approx(expected, rel=1e-4), name
    assert len(evaluator.dataset) % BATCH


def test_a_limit_reads_only_some_rows(made):
    evaluator, _, state = made
    part = evaluator(state, limit=1)
    assert part["loss"] != evaluator(state)["loss"]
    assert part["share"] == pytest.approx(BATCH / len(evaluator.dataset))


class Elsewhere(LoadedTeacher):
    """Records of other data."""

    stored = losses.RecordSpec(mode="top_k", temperatures=(1.0,))

    def covers(self, dataset):
        return False

    def describe(self):
        return {}

    def trunk(self, *arguments, **options):
        raise AssertionError("a teacher without records of these rows was read")


def test_terms_of_records_of_other_data_are_left_out_and_named(made):
    evaluator, _, _ = made
    terms = [
        LossTerm(name="kl", loss=losses.ForwardKL(sparse="tail_bucket")),
        LossTerm(name="ce", loss=losses.CrossEntropy(), mask=even),
    ]
    student = functools.partial(
        Transformer, vocab_size=300, dim=8, num_layers=1, num_heads=1
    )
    modules = TrainModules(student, terms, optax.sgd(1.0))
    config = runtime.Runtime(mesh=runtime.Mesh(data=8))
    mesh = mesh_lib.make(config.mesh)
    step = CompiledStep(modules, mesh=mesh, config=config, seed=0, teacher=Elsewhere())
    source = types.SimpleNamespace(load=lambda cache: evaluator.dataset)
    evaluation = Evaluation(name="held_out", data=source, batch_size=BATCH)
    sparse = Evaluator(evaluation, step, config=config)
    assert sparse.cautions == (
        "held_out: kl not measured: the teacher's records do not cover this data",
    )
    state = modules.create(0, mesh, config.mesh.rules)
    measured = sparse(state, limit=1)
    assert {n for n in measured if "/" in n} == {"terms/ce"}
    # Targets that no term counts are evaluated all the same.
    assert measured["loss"] != measured["terms/ce"]
    assert 4.0 < measured["loss"] < 8.0


@pytest.mark.parametrize("partial", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_terms_of_records_of_the_held_out_data_are_measured(partial, made, tmp_path):
    """Of all rows, though the last batch is not full; records have no metrics."""
    dataset, best, temperature = made[0].dataset, 9, 2.0
    batch = all_rows(made[0])
    teacher_logits = np.random.default_rng(0).normal(0, 4, (*batch["mask"].shape, 300))
    layout = Layout(
        mode="top_k",
        entries=best,
        vocab_size=300,
        sequence_length=24,
        temperatures=(temperature,),
        partial=partial,
    )
    origin = dataclasses.replace(sets.ORIGIN, data=dataset.fingerprint)
    layout = dataclasses.replace(layout, origin=origin.digest)
    stored = sets.chosen(None, layout, teacher_logits.astype(np.float32))
    known = np.random.default_rng(1).random(batch["mask"].shape) < 0.5
    stored |= {"known": known}
    numbers = range(len(dataset))
    records = encode_batch(layout, indices=numbers, rows=batch, stored=stored)
    sets.put(tmp_path / "records", layout, records, origin=origin)

    # The student's values of them, by the evaluation of a run that learns from them.
    kl = losses.ForwardKL(temperature=temperature)
    terms = [LossTerm(name="kl", loss=kl, weight=0.1)]
    student = functools.partial(
        Transformer, vocab_size=300, dim=8, num_layers=1, num_heads=1
    )
    modules = TrainModules(student, terms, optax.sgd(1.0))
    config = runtime.Runtime(mesh=runtime.Mesh(data=8), head=in_blocks(10, 300))
    mesh = mesh_lib.make(config.mesh)
    teacher = LoadedRecords(Records.load(tmp_path))
    step = CompiledStep(modules, mesh=mesh, config=config, seed=0, teacher=teacher)
    source = types.SimpleNamespace(load=lambda cache: dataset)
    evaluation = Evaluation(name="held_out", data=source, batch_size=BATCH)
    evaluator = Evaluator(evaluation, step, config=config)
    assert evaluator.cautions == ()
    state = modules.create(0, mesh, config.mesh.rules)
    state.params["student"]["output"] *= 8.0
    measured = evaluator(state)
    assert {n for n in measured if "/" in n} == {"terms/kl"}

    # The divergence over nine entries and a tail, in float64.
    student_arrays = {
        part: trees["student"]
        for part, trees in {
            "params": state.params,
            "variables": state.variables,
        }.items()
    }
    logits, _ = of_targets(modules, jax.device_get(student_arrays), batch)
    log_q = logits / temperature - log_normalizer(logits / temperature)[:, None]
    scores = teacher_logits[batch["mask"]].astype(np.float32) / temperature
    log_p = scores - log_normalizer(np.float64(scores))[:, None]
    order = np.argsort(-log_p, axis=-1)

    def with_tail(x):
        ordered = np.take_along_axis(x, order, -1)
        tail = log_normalizer(ordered[:, best:])[:, None]
        return np.concatenate([ordered[:, :best], tail], axis=-1)

    p, q = with_tail(log_p), with_tail(log_q)
    values = np.sum(np.exp(p) * (p - q), axis=-1)
    expected = np.mean(values[known[batch["mask"]]] if partial else values)
    assert measured["terms/kl"] == pytest.approx(expected, rel=2e-4)
    assert len(dataset) % BATCH


def test_no_token_at_all_has_no_bits_per_byte():
    empty = np.zeros(BINS)
    found = metrics(
        {"count": 0.0, "nats": 0.0, "correct": empty, "confidence": empty},
        text_bytes=0.0,
    )
    assert found["loss"] == 0.0
    assert "bits_per_byte" not in found


def test_a_batch_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Evaluation(name="held_out", data=None, batch_size=0)


@pytest.mark.parametrize("batches", [1, 8])
def test_what_gin_sets_never_moves_a_result(batches):
    """The untrained student and the last one are measured on all rows."""
    limits = {}
    trainer: Any = types.SimpleNamespace(
        num_steps=20,
        config=runtime.Runtime(loop=runtime.Loop(evaluate_batches=batches)),
        evaluators={
            "held_out": lambda state, limit: limits.update({state.step: limit})
        },
    )
    for step in (0, 10, 20):
        Trainer.evaluate(trainer, "held_out", types.SimpleNamespace(step=step))
    assert limits == {0: None, 10: batches, 20: None}
