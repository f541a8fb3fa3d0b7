"""Evaluation metrics against float64 NumPy on the same logits."""

import functools
import math

import jax
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer
from runner import data, runtime
from runner.evaluation import evaluation
from runner.evaluation.evaluation import Evaluation, Evaluator
from runner.evaluation.prediction_metrics import BINS
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from tests.heads import in_blocks

TEXT = "A loss answers with one value per token, and divides by nothing at all. " * 9


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text(TEXT[::-1])
    documents = data.TextFiles(files=[str(folder / "*.txt")])
    tokenizer = data.ByteBPE(documents=documents, vocab_size=300)
    source = data.TokenizedText(
        documents=documents, tokenizer=tokenizer, sequence_length=24
    )
    student = functools.partial(
        Transformer, vocab_size=300, dim=16, num_layers=1, num_heads=2
    )
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy())]
    modules = TrainModules(student, terms, optax.sgd(1.0))
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=4, tensor=2),
        head=in_blocks(10, 300, planes=2),
        input=runtime.Input(cache=str(folder / "cache")),
    )
    mesh = mesh_lib.make(config.mesh)
    evaluator = Evaluator(
        Evaluation(name="held_out", data=source, batch_size=8),
        modules,
        mesh=mesh,
        config=config,
    )
    state = modules.create(0, mesh, config.mesh.rules)
    scaled = jax.tree.map(lambda x: 8.0 * x, state.params["student"]["output"])
    state.params["student"]["output"] = scaled
    return evaluator, modules, state


def reference(evaluator, modules, state):
    """Over every row at once, from the same logits."""
    dataset = evaluator.dataset
    rows = [dataset[i] for i in range(len(dataset))]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    params, variables = jax.device_get(
        (state.params["student"], state.variables["student"])
    )
    student = modules.student(params, variables)
    logits = np.asarray(student.head(student.trunk(batch).hidden), np.float64)
    logits, mask = logits.reshape(-1, 300), batch["mask"].reshape(-1)
    logits, targets = logits[mask], batch["targets"].reshape(-1)[mask]
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


def test_metrics_are_those_of_numpy_over_the_whole_split(made):
    evaluator, modules, state = made
    found, expected = evaluator(state), reference(evaluator, modules, state)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_a_limit_reads_only_some_rows(made):
    evaluator, _, state = made
    assert evaluator(state, limit=1)["loss"] != evaluator(state)["loss"]


def test_no_token_at_all_has_no_bits_per_byte():
    empty = np.zeros(BINS)
    found = evaluation.metrics(
        {"count": 0.0, "nats": 0.0, "bytes": 0.0, "correct": empty, "confidence": empty}
    )
    assert found["loss"] == 0.0
    assert "bits_per_byte" not in found


def test_a_batch_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Evaluation(name="held_out", data=None, batch_size=0)
