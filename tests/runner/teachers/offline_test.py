"""Losses over records, beside float64 over the logits that were recorded."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

import losses
from runner.records.format import encode_batch, stack
from runner.records.layout import Layout
from runner.records.reader import PREFIX, Records, arrays
from runner.teachers.offline import LoadedRecords, unpacked
from tests.runner.records import sets

VOCABULARY, BEST, TOKENS = 4001, 3, 4
FULL = Layout(
    mode="full",
    entries=VOCABULARY,
    vocab_size=VOCABULARY,
    sequence_length=TOKENS,
    temperatures=(),
)
TOP = dataclasses.replace(FULL, mode="top_k", entries=BEST, temperatures=(1.0, 4.0))


def read_back(layout, logits):
    """What an offline teacher gives of one recorded row of logits `[T V]`."""
    random = np.random.default_rng(0)
    rows = sets.rows(random, count=1, length=TOKENS, vocab=VOCABULARY)
    stored = sets.chosen(random, layout, logits[None])
    records = encode_batch(layout, indices=[0], rows=rows, stored=stored)
    batch = {name: jnp.asarray(x) for name, x in arrays(stack(layout, records)).items()}
    assert all(name.startswith(PREFIX) for name in batch)
    spec = losses.RecordSpec(mode=layout.mode, temperatures=layout.temperatures)
    teacher = unpacked(batch, spec, layout.format)
    return jax.tree.map(lambda x: x[0], teacher)


def value(loss, teacher, student):
    targets = jnp.zeros(TOKENS, jnp.int32)
    return loss(
        losses.FullOutputs(
            batch={"targets": targets},
            logits=jnp.asarray(student, jnp.float32),
            teacher=teacher,
        )
    )


def far_below(nats):
    """A best entry, and 4,000 that are `nats` below it, more or less."""
    logits = -nats - np.random.default_rng(0).uniform(0, 4, (TOKENS, VOCABULARY))
    logits[:, 7] = 0.0
    return logits


@pytest.mark.parametrize("temperature", [1.0, 4.0, 16.0])
def test_whole_records_are_the_teacher_at_any_temperature(temperature):
    logits = far_below(40.0)
    teacher = read_back(FULL, logits)
    for kind in (losses.ForwardKL, losses.ReverseKL):
        loss = kind(temperature=temperature)
        np.testing.assert_allclose(value(loss, teacher, logits), 0.0, atol=1e-5)
        q = np.zeros_like(logits)
        p = log_softmax(logits / temperature, axis=-1)
        u = np.full_like(p, -np.log(VOCABULARY))
        a, b = (p, u) if kind is losses.ForwardKL else (u, p)
        expected = np.sum(np.exp(a) * (a - b), axis=-1)
        np.testing.assert_allclose(value(loss, teacher, q), expected, rtol=2e-4)


@pytest.mark.parametrize("sure", [12.0, 18.0, 26.0, 60.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_tail_of_a_sure_teacher_is_exact(sure, temperature):
    logits = far_below(sure)
    loss = losses.ReverseKL(temperature=temperature)
    p = log_softmax(logits / temperature, axis=-1)
    order = np.argsort(-p, axis=-1)
    best, others = order[:, :BEST], order[:, BEST:]

    def with_tail(x):
        tail = np.asarray(logsumexp(np.take_along_axis(x, others, -1), axis=-1))
        stored = np.take_along_axis(x, best, -1)
        return np.concatenate([stored, tail[..., None]], axis=-1)

    q = np.full_like(p, -np.log(VOCABULARY))
    a, b = with_tail(q), with_tail(p)
    expected = np.sum(np.exp(a) * (a - b), axis=-1)
    actual = value(loss, read_back(TOP, logits), np.zeros_like(logits))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize("layout", [FULL, TOP], ids=lambda x: x.mode)
def test_what_format_1_does_not_know_is_said(layout, tmp_path):
    entries = min(layout.entries, 300)
    small = dataclasses.replace(layout, vocab_size=300, entries=entries, format=1)
    made = sets.make(tmp_path / "records", small)
    assert made.manifest is not None
    cautions = LoadedRecords(Records.load(tmp_path)).cautions
    assert len(cautions) == (layout.mode == "top_k")
    assert all("mass outside of" in line for line in cautions)
    newer = dataclasses.replace(small, format=2)
    sets.make(tmp_path / "newer", newer)
    assert LoadedRecords(Records.load(tmp_path / "newer")).cautions == ()
