"""Metrics that are not finite end the run, with a message that says which."""

import math

import numpy as np
import pytest

from runner.errors import NotFinite
from runner.train.actions.stop_on_nan import stop_on_nan
from tests.runner.train.contexts import context


def test_finite_metrics_stop_nothing():
    stop = stop_on_nan(context())
    for step in (1, 2, 3):
        stop(step, metrics={"learning/ce": 1e30}, rows=np.arange(4))


def test_the_first_bad_term_is_named_in_the_order_of_the_experiment():
    run = context(terms=["z_loss", "ce"], num_steps=200)
    metrics = {
        "learning/ce": math.nan,
        "learning/fine": 1.0,
        "learning/total": math.nan,
        "learning/z_loss": math.inf,
        "moe/entropy": math.nan,
        "optimizer/gradient_norm": math.nan,
    }
    with pytest.raises(NotFinite) as error:
        stop_on_nan(run)(123, metrics=metrics, rows=np.array([7, 1, 40], np.int32))
    assert str(error.value).splitlines() == [
        "step 123: learning/z_loss is inf (and so are learning/ce, learning/total, "
        "optimizer/gradient_norm, moe/entropy)",
        "batch of step 123: dataset rows 7, 1, 40",
        "no checkpoint of this state was kept; the last one is good",
    ]
    assert run.writer.scalars == [(123, metrics)] and run.writer.flushes == 1


def test_rows_of_a_large_batch_are_shortened():
    stop = stop_on_nan(context())
    with pytest.raises(NotFinite, match=r"30, 31, \.\.\. \(256 in all\)"):
        stop(1, metrics={"learning/ce": math.nan}, rows=np.arange(256))


def test_a_term_that_adds_nothing_may_be_what_it_likes():
    stop = stop_on_nan(context(terms=["watched"]))
    metrics = {
        "learning/ce": 1.0,
        "learning/watched": math.nan,
        "contributions/watched": 0.0,
    }
    stop(1, metrics=metrics, rows=np.arange(4))
    with pytest.raises(NotFinite, match="learning/watched is nan"):
        stop(2, metrics=metrics | {"contributions/watched": math.nan}, rows=[])
