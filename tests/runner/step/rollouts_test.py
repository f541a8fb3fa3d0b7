"""Rows that the student writes: which rows, from which prompt, and up to where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runner.data.rollouts import Rollouts
from runner.step.rollouts import chosen_rows, continued, of_groups
from tests.models.inputs import VOCAB
from tests.models.states import transformer

LENGTH, NEW = 8, 4
TOKENS = np.array(
    [
        [3, 1, 4, 1, 5, 9, 2, 6],  # one document
        [5, 3, 5, 8, 9, 7, 9, 3],  # the prompt lies in the second one
        [2, 7, 1, 8, 2, 8, 1, 8],  # not written
        [1, 4, 1, 4, 2, 1, 3, 5],  # room for less than there may be
    ],
    np.int32,
)
SEGMENTS = np.ones((4, LENGTH), np.int32)
SEGMENTS[1, 2:] = 2
MASK = np.arange(LENGTH) >= np.array([[3], [4], [3], [6]])
BATCH = {
    "tokens": TOKENS,
    "targets": np.roll(TOKENS, -1, 1),
    "mask": MASK,
    "segment_ids": SEGMENTS,
    "positions": np.broadcast_to(np.arange(LENGTH, dtype=np.int32), TOKENS.shape),
    "index": np.arange(4, dtype=np.int32),
    "by_document": TOKENS.astype(np.float32),
    "own": np.zeros(4, bool),
}
PROMPTS = {0: [3, 1, 4, 1], 1: [5, 8, 9], 3: [1, 4, 1, 4, 2, 1, 3]}


def rollouts(**fields):
    names = ("top_k", "top_p", "prompt_tokens", "at_once")
    plain = {**dict.fromkeys(names), "end": VOCAB}
    plain |= {"refresh_every": 1, "teacher_share": 0.0}
    numbers = {"fraction": 1.0, "max_new_tokens": NEW, "temperature": 0.0}
    return Rollouts(**(plain | numbers | {"vocab_size": VOCAB} | fields))


@functools.cache
def model():
    return transformer(num_layers=1)


@jax.jit
def next_logits(model, tokens):
    """Logits after each position of one row, without a cache."""
    row = {
        "tokens": tokens[None],
        "segment_ids": jnp.ones((1, LENGTH), jnp.int32),
        "positions": jnp.arange(LENGTH)[None],
    }
    return model.head(model.trunk(row).hidden)[0]


def best_continuation(prompt, count):
    row = np.zeros(LENGTH + 1, np.int32)
    row[: len(prompt)] = prompt
    for at in range(len(prompt), len(prompt) + count):
        row[at] = np.argmax(next_logits(model(), row[:-1])[at - 1])
    return row[: len(prompt) + count]


# The end is an argument, so that both tests below share one program.
@jax.jit
def written(model, batch, own, key, end):
    return continued([model], batch, own, rollouts(end=end), key)


OWN = jnp.array([True, True, False, True])


def write(end=VOCAB):
    return jax.device_get(written(model(), BATCH, OWN, jax.random.key(0), end))


def test_a_row_is_its_prompt_and_what_the_student_writes_after_it():
    batch, counts = write()
    np.testing.assert_array_equal(counts, [4, 4, 0, 2])
    for row, prompt in PROMPTS.items():
        sequence = best_continuation(prompt, counts[row])
        used = len(sequence) - 1
        np.testing.assert_array_equal(batch["tokens"][row, :used], sequence[:-1])
        np.testing.assert_array_equal(batch["targets"][row, :used], sequence[1:])
        places = np.arange(LENGTH)
        real = places < used
        learned = real & (places >= len(prompt) - 1)
        np.testing.assert_array_equal(batch["mask"][row], learned)
        np.testing.assert_array_equal(batch["segment_ids"][row], real)
        np.testing.assert_array_equal(batch["positions"][row], places * real)
        last = TOKENS[row, np.argmax(MASK[row])]
        np.testing.assert_array_equal(batch["by_document"][row], [last] * LENGTH)
    for name, x in BATCH.items():  # the row of the data stays as it is
        np.testing.assert_array_equal(batch[name][2], x[2])
    np.testing.assert_array_equal(batch["own"], OWN)


def test_the_end_of_a_document_ends_a_row_and_is_learned():
    free, _ = write()
    end = int(free["targets"][0, 4])  # the second token that row 0 gets
    batch, counts = write(end)
    expected = list(free["targets"][0, 3:7]).index(end) + 1
    assert counts[0] == expected < 4
    assert batch["targets"][0, 3 + expected - 1] == end
    assert batch["mask"][0].sum() == expected


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0, lambda step: step / 100])
def test_the_share_of_written_rows_is_the_fraction_on_average(fraction):
    spec = rollouts(fraction=fraction)
    keys = jax.random.split(jax.random.key(1), 400)
    rows = jax.vmap(lambda key: chosen_rows(BATCH, spec, jnp.float32(30), key))(keys)
    expected = 0.3 if callable(fraction) else fraction
    counts = np.sum(rows, axis=1)
    assert set(counts.tolist()) <= {np.floor(4 * expected), np.ceil(4 * expected)}
    assert abs(np.mean(counts) / 4 - expected) < 0.025


SHARE, TEMPERATURE = 0.3, 2.0


def teacher():
    return jax.tree.map(lambda x: 1.5 * x, model())


@jax.jit
def mixed(models, batch, own, key):
    spec = rollouts(teacher_share=SHARE, temperature=TEMPERATURE, end=0)
    return continued(models, batch, own, spec, key)


def test_the_teacher_writes_too_and_each_token_has_its_probability():
    batch = {**BATCH, "own_log_probability": np.zeros(TOKENS.shape, np.float32)}
    both = [model(), teacher()]
    rows, _ = jax.device_get(mixed(both, batch, OWN, jax.random.key(3)))
    assert rows["mask"].sum() > 5
    for row in PROMPTS:
        q, p = (
            np.exp(np.float64(next_logits(x, rows["tokens"][row])) / TEMPERATURE)
            for x in both
        )
        q, p = (x / x.sum(-1, keepdims=True) for x in (q, p))
        drawn = np.log(SHARE * p + (1 - SHARE) * q)
        expected = drawn[np.arange(LENGTH), rows["targets"][row]]
        np.testing.assert_allclose(
            rows["own_log_probability"][row],
            np.where(rows["mask"][row], expected, 0.0),
            atol=1e-5,
        )
        assert abs(np.log(p / q)).max() > 0.1


@pytest.mark.slow  # compiles the loop that writes
def test_rows_of_a_group_go_on_with_one_prompt_and_hold_what_they_were_drawn_with():
    fields = rollouts(group=2, temperature=1.0, fraction=0.5)
    key = jax.random.key(3)
    own = chosen_rows(BATCH, fields, jnp.int32(0), key)
    np.testing.assert_array_equal(own, [True, True, False, False])
    held = np.zeros(TOKENS.shape, np.float32)
    batch, own = of_groups({**BATCH, "own_log_probability": held}, own, 2)
    np.testing.assert_array_equal(batch["index"], [0, 0, 2, 3])
    rows, counts = jax.jit(lambda model: continued([model], batch, own, fields, key))(
        model()
    )
    tokens = np.asarray(rows["tokens"])
    np.testing.assert_array_equal(tokens[:2, :4], [PROMPTS[0]] * 2)
    assert (rows["targets"][0] != rows["targets"][1]).any()
    np.testing.assert_array_equal(rows["own_log_probability"][2:], 0.0)
    for row in range(2):
        logits = np.asarray(next_logits(model(), rows["tokens"][row]), np.float64)
        log_q = (
            logits[:, :VOCAB] - np.logaddexp.reduce(logits[:, :VOCAB], axis=-1)[:, None]
        )
        at = np.asarray(rows["mask"][row])
        assert at.sum() == counts[row] or counts[row] > at.sum()
        drawn = log_q[np.arange(LENGTH), np.minimum(rows["targets"][row], VOCAB - 1)]
        inside = at & (np.asarray(rows["targets"][row]) < VOCAB)
        np.testing.assert_allclose(
            np.asarray(rows["own_log_probability"][row])[inside],
            drawn[inside],
            rtol=1e-4,
            atol=1e-5,
        )
