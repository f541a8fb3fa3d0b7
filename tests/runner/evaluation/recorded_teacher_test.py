"""Evaluation of terms that read a teacher's records."""

import dataclasses
import functools
import types

import jax
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer
from runner import runtime
from runner.evaluation.diagnostics import Diagnostics
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.evaluator import Evaluator
from runner.machine import mesh as mesh_lib
from runner.records.format import Layout, encode_batch
from runner.records.reader import Records
from runner.state.trainable import TrainModules
from runner.step.compiled_step import CompiledStep
from runner.step.requirements import compares_with_teacher
from runner.teachers.base import LoadedTeacher
from runner.teachers.offline import LoadedRecords
from tests.heads import in_blocks
from tests.runner.evaluation.held_out import (
    BATCH,
    all_rows,
    even,
    log_normalizer,
    of_targets,
    source,
)
from tests.runner.records import sets


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    return source(folder).load(cache=str(folder / "cache"))


class Elsewhere(LoadedTeacher):
    """Records of other data."""

    stored = losses.RecordSpec(mode="top_k", temperatures=(1.0,))

    def covers(self, dataset):
        return False

    def describe(self):
        return {}

    def trunk(self, *arguments, **options):
        raise AssertionError("a teacher without records of these rows was read")


def test_terms_whose_records_cover_other_data_are_left_out_and_named(dataset):
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
    held_out = types.SimpleNamespace(load=lambda cache: dataset)
    evaluation = Evaluation(name="held_out", data=held_out, batch_size=BATCH)
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


@pytest.mark.parametrize("partial", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_terms_of_records_of_the_held_out_data_are_measured(partial, dataset, tmp_path):
    """Of all rows, though the last batch is not full; records have no metrics."""
    best, temperature = 9, 2.0
    batch = all_rows(dataset)
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
    terms = [
        LossTerm(name="kl", loss=kl, weight=0.1),
        LossTerm(name="ce", loss=losses.CrossEntropy()),
    ]
    student = functools.partial(
        Transformer, vocab_size=300, dim=8, num_layers=1, num_heads=1
    )
    modules = TrainModules(student, terms, optax.sgd(1.0))
    config = runtime.Runtime(mesh=runtime.Mesh(data=8), head=in_blocks(10, 300))
    mesh = mesh_lib.make(config.mesh)
    teacher = LoadedRecords(Records.load(tmp_path))
    step = CompiledStep(modules, mesh=mesh, config=config, seed=0, teacher=teacher)
    held_out = types.SimpleNamespace(load=lambda cache: dataset)
    evaluation = Evaluation(name="held_out", data=held_out, batch_size=BATCH)
    evaluator = Evaluator(evaluation, step, config=config)
    assert evaluator.cautions == ()
    state = modules.create(0, mesh, config.mesh.rules)
    state.params["student"]["output"] *= 8.0
    measured = evaluator(state)
    assert {n for n in measured if "/" in n} == {"terms/kl", "terms/ce"}
    assert "kl" not in measured

    # Nor has a diagnosis what these records do not tell: temperature 1, all tokens.
    rows = next(iter(evaluator._batches()))
    diagnose = Diagnostics(step, best=5)._on_device
    measures = jax.eval_shape(diagnose, state, rows, step.frozen)["measures"]
    assert "student_entropy" in measures and "kl" not in measures

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

    # Of every target, whatever the teacher scored.
    targets = batch["targets"][batch["mask"]]
    log_likelihood = logits[np.arange(len(targets)), targets] - log_normalizer(logits)
    for name in ("loss", "terms/ce"):
        assert measured[name] == pytest.approx(-np.mean(log_likelihood), rel=2e-4), name


@pytest.mark.parametrize(
    ("stored", "known"),
    [
        (None, True),
        (losses.RecordSpec(mode="top_k", temperatures=(1.0, 2.0)), True),
        (losses.RecordSpec(mode="top_k", temperatures=(2.0,)), False),
        (losses.RecordSpec(mode="full", temperatures=()), True),
        (losses.RecordSpec(mode="sampled", temperatures=(1.0,), partial=True), False),
    ],
)
def test_a_teacher_known_of_all_tokens_at_temperature_1_is_compared(stored, known):
    teacher = Elsewhere()
    teacher.stored = stored
    kl, ce = losses.ForwardKL(temperature=2.0), losses.CrossEntropy()
    terms = [LossTerm(name="kl", loss=kl), LossTerm(name="ce", loss=ce)]
    assert compares_with_teacher(terms, teacher) is known
    assert not compares_with_teacher(terms[1:], teacher)
    assert not compares_with_teacher(terms, None)
