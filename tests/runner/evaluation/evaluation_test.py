"""Evaluations that are refused, their limits, and the formulas of their metrics."""

import types
from typing import Any

import numpy as np
import pytest

import losses
from runner import runtime
from runner.evaluation.evaluation import Evaluation
from runner.evaluation.evaluator import gap_closed, metrics
from runner.evaluation.prediction_metrics import BINS
from runner.train.setup import Setup


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([losses.ZLoss(), losses.ZLoss()], "two metrics are named 'z_loss'; give one"),
        ([3], "metrics must be losses without parameters, got 3"),
    ],
)
def test_metrics_of_one_name_or_without_a_loss_are_refused(metrics, message):
    with pytest.raises(ValueError, match=message):
        Evaluation(name="held_out", data=None, batch_size=1, metrics=metrics)


def test_a_batch_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Evaluation(name="held_out", data=None, batch_size=0)


def test_gap_closed_is_0_at_the_start_and_1_at_the_teacher():
    shares = [gap_closed(x, start=5.0, teacher=3.0) for x in (5.0, 4.0, 3.0, 2.0, 6.0)]
    assert shares == [0.0, 0.5, 1.0, 1.5, -0.5]
    assert gap_closed(4.0, start=3.0, teacher=3.0) is None
    assert gap_closed(3.5, start=3.0, teacher=4.0) is None


def test_a_batch_without_tokens_has_no_bits_per_byte():
    empty = np.zeros(BINS)
    measured = metrics(
        {"count": 0.0, "nats": 0.0, "correct": empty, "confidence": empty},
        text_bytes=0.0,
    )
    assert measured["loss"] == 0.0
    assert "bits_per_byte" not in measured


@pytest.mark.parametrize("batches", [1, 8])
def test_evaluate_batches_limits_no_first_or_last_evaluation(batches):
    """The untrained student and the last one are measured on all rows."""
    limits = {}
    setup: Any = types.SimpleNamespace(
        num_steps=20,
        config=runtime.Runtime(loop=runtime.Loop(evaluate_batches=batches)),
        evaluators={
            "held_out": lambda state, limit, **_: limits.update({state.step: limit})
        },
    )
    for step in (0, 10, 20):
        Setup.evaluate(setup, "held_out", types.SimpleNamespace(step=step))
    assert limits == {0: None, 10: batches, 20: None}
