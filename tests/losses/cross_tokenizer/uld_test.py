"""Losses over spans: TRL's own values, and values that a reader checks by hand."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional
from losses.functional import spans as over_spans
from runner.aligning.spans import common_spans, first_and_last

FILE = np.load(Path(__file__).parent / "trl_uld.npz")
"""`make_trl_uld.py` writes it: TRL 1.16.0, torch 2.13.0."""

# By its token strings: the teacher's id of each student id, and what it has besides.
TO_TEACHER = [1, 2, 3, -1, -1, 6, -1, 7, 0, -1, -1]
OTHERS = [4, 5, 8]


def outputs(row, *, by_position=False):
    """One row of the file as the runner lays it out: place i has the target i + 1."""
    of = {}
    for side in ("student", "teacher"):
        names = ("ids", "labels", "offsets", "logits")
        ids, labels, ends, logits = (FILE[f"{side}/{name}"][row] for name in names)
        count = int((labels != -100).sum()) - 1  # without the end, which TRL skips
        of[side] = {
            "targets": ids[1 : count + 1],
            "ends": ends[1 : count + 1, 1].astype(float),
            "logits": logits[:count].astype(np.float64),
        }
    student, teacher = of["student"], of["teacher"]
    if by_position:
        for side in of.values():
            side["ends"] = np.arange(1.0, 1 + len(side["targets"]))
    spans, own = common_spans(student["ends"], teacher["ends"], begin=0)
    log_p = teacher["logits"] - np.log(np.exp(teacher["logits"]).sum(-1)[:, None])
    log_p = log_p[np.arange(len(own)), teacher["targets"]]
    first, last = first_and_last(own, spans)
    before = [log_p[a:b].sum() for a, b in zip(first, last, strict=True)]
    at_last = teacher["logits"][last]
    shared = np.where(np.array(TO_TEACHER) < 0, -np.inf, at_last[:, TO_TEACHER])
    starts = np.diff(spans, prepend=0) > 0
    intermediates = {
        "spans/log_probability_before": np.array(before),
        "spans/shared_logits": shared,
        "spans/other_logits": at_last[:, OTHERS],
    }
    batch = {
        "targets": student["targets"].astype(np.int32),
        "mask": np.ones(len(spans), bool),
        "teacher/spans": spans.astype(np.int32),
    }
    intermediates["logits"] = student["logits"]
    return batch, {n: x.astype(np.float32) for n, x in intermediates.items()}, starts


SETTINGS = {
    "uld": losses.ULD(),
    "positions": losses.ULD(),
    "hybrid": losses.HybridULD(),
    "hybrid_forward": losses.HybridULD(beta=0.0),
    "hybrid_reverse": losses.HybridULD(beta=1.0),
    "hybrid_weighted": losses.HybridULD(
        beta=0.3, matched_weight=0.7, unmatched_weight=1.5
    ),
}


@functools.cache
def means_of_rows():
    """By setting, the mean over the spans of each row, of one program."""

    def value(loss, batch, floats):
        batch, floats = jax.tree.map(lambda x: x[None], (batch, floats))
        logits = floats.pop("logits")
        teacher = losses.TeacherOutputs(intermediates=floats)
        return loss(losses.FullOutputs(batch=batch, logits=logits, teacher=teacher))[0]

    def values(rows):
        return {
            setting: [value(loss, *row) for row in rows[setting == "positions"]]
            for setting, loss in SETTINGS.items()
        }

    rows = [[outputs(row, by_position=x) for row in range(2)] for x in (False, True)]
    results = jax.jit(values)([[row[:2] for row in both] for both in rows])
    return {
        setting: [
            float(value[starts].mean())
            for value, (*_, starts) in zip(
                of_rows, rows[setting == "positions"], strict=True
            )
        ]
        for setting, of_rows in jax.device_get(results).items()
    }


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_values_are_those_of_trl(setting):
    means = means_of_rows()[setting]
    for row in range(2):
        expected = FILE[f"{setting}/{row}{row + 1}"]
        np.testing.assert_allclose(means[row], expected, rtol=2e-6)
    np.testing.assert_allclose(np.mean(means), FILE[f"{setting}/02"], rtol=2e-6)


def test_a_span_costs_the_binary_divergence_of_its_probability():
    p, q = 0.75, 0.5
    value = functional.span_likelihood(jnp.log(q), jnp.log(p))
    by_hand = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    np.testing.assert_allclose(value, by_hand, rtol=1e-6)
    # However sure both are, and however sure one alone is.
    assert functional.span_likelihood(jnp.float32(0.0), jnp.float32(0.0)) == 0
    assert np.isfinite(functional.span_likelihood(jnp.float32(0), jnp.float32(-300)))
    assert np.isfinite(functional.span_likelihood(jnp.float32(-300), jnp.float32(0)))
    half = functional.span_likelihood(2 * jnp.log(q), 2 * jnp.log(p), 2.0)
    np.testing.assert_allclose(half, by_hand, rtol=1e-6)


def test_spans_have_other_divergences_and_the_limits_of_great_temperatures():
    log_p, log_q = math.log(0.3), math.log(0.05)

    def exactly(divergence, temperature):
        p, q = (math.exp(x / temperature) for x in (log_p, log_q))
        if divergence == "total_variation":
            return abs(p - q)
        if divergence == "renyi":
            outside = (1 - p) ** 1.5 * (1 - q) ** -0.5
            return math.log(p**1.5 * q**-0.5 + outside) / 0.5
        p, q = (q, p) if divergence == "reverse_kl" else (p, q)
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    for divergence in ("kl", "reverse_kl", "total_variation", "renyi"):
        for temperature in (1.0, 100.0, math.inf):
            value = functional.span_likelihood(
                jnp.float32(log_q),
                jnp.float32(log_p),
                temperature,
                divergence=divergence,
                order=1.5,
            )
            large = math.isinf(temperature)
            expected = exactly(divergence, 1e6 if large else temperature)
            scale = 1e6 if large else 1.0
            np.testing.assert_allclose(value, scale * expected, rtol=1e-3)
    span = functools.partial(losses.SpanLikelihood, divergence="total_variation")
    assert (span().unit, span(temperature=math.inf).unit) == ("1", "nats")
    with pytest.raises(ValueError, match=r"order must be positive and not 1, got 1\.0"):
        span(order=1.0)
    jax.eval_shape(functional.span_likelihood, *[jnp.float32(-1.0)] * 2, 2.0)


def test_a_span_has_the_sum_of_its_tokens():
    spans = jnp.array([[1, 1, 0, 2, 3, 3, 3]])
    values = jnp.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]])
    sums = over_spans.sum_over_spans(values, spans, jnp.array([[1, 0, 3, 2]]))
    np.testing.assert_array_equal(sums, [[3.0, 0.0, 112.0, 8.0]])
    last = over_spans.last_of_span(spans)
    np.testing.assert_array_equal(last, [[1, 1, 2, 3, 6, 6, 6]])


def test_weights_of_a_hybrid_come_in_pairs():
    with pytest.raises(ValueError, match="must both be numbers"):
        losses.HybridULD(matched_weight=1.0)
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        losses.HybridULD(beta=1.5)
