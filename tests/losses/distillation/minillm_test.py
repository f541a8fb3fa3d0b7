"""MiniLLM's gradient, in expectation over all sequences, exactly, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional
from losses.functional import sampled

WORDS, LENGTH = 3, 3
GENERATOR = np.random.default_rng(4)
PREFIXES = [
    prefix
    for length in range(LENGTH)
    for prefix in itertools.product(range(WORDS), repeat=length)
]
STUDENT, TEACHER = GENERATOR.normal(0.0, 1.0, (2, len(PREFIXES), WORDS))
SEQUENCES = list(itertools.product(range(WORDS), repeat=LENGTH))
ROWS = np.array(
    [[PREFIXES.index(y[:t]) for t in range(LENGTH)] for y in SEQUENCES]
)  # of the tables of logits, by sequence and token


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def sequence_kl(student):
    """`KL(q‖p)` of whole sequences."""
    log_q, log_p = (log_softmax(x) for x in (student, TEACHER))
    y = np.array(SEQUENCES)
    log_q, log_p = (np.sum(x[ROWS, y], axis=1) for x in (log_q, log_p))
    return np.sum(np.exp(log_q) * (log_q - log_p))


@jax.jit
def expected_gradient(table, shares, drawn):
    """Mean over the sequences of the gradient of the sum over one: class, function."""
    targets = jnp.asarray(SEQUENCES)

    def value(table, by_class):
        if not by_class:
            values = functional.minillm(
                table[ROWS],
                jnp.asarray(TEACHER, jnp.float32)[ROWS],
                targets,
                jnp.ones(targets.shape, bool),
                over="sum",
                drawn=drawn,
            )
            return jnp.sum(shares[:, None] * values)
        outputs = losses.FullOutputs(
            batch={
                "targets": targets,
                "mask": jnp.ones(targets.shape, bool),
                "own_log_probability": drawn,
            },
            logits=table[ROWS],
            intermediates={},
            teacher=losses.TeacherOutputs(
                logits=jnp.asarray(TEACHER, jnp.float32)[ROWS]
            ),
            step=jnp.int32(0),
            key=jax.random.key(0),
        )
        values = losses.MiniLLM(over="sum")(outputs)
        return jnp.sum(shares[:, None] * values)

    return [jax.grad(value)(table, by_class) for by_class in (True, False)]


def test_the_expected_gradient_is_that_of_the_kl_of_whole_sequences():
    log_q = log_softmax(STUDENT)[ROWS, np.array(SEQUENCES)]
    shares = np.exp(np.sum(log_q, axis=1))
    for gradient in expected_gradient(*float32(STUDENT, shares, log_q)):
        np.testing.assert_allclose(gradient, slopes(sequence_kl), atol=2e-6)


def test_tokens_that_the_teacher_may_have_drawn_are_weighted():
    """Drawn from `0.3 p + 0.7 q`: the term of a token counts q over that, at y."""
    y = np.array(SEQUENCES)
    p, q = (np.exp(log_softmax(x)) for x in (TEACHER, STUDENT))
    drawn = np.take_along_axis((0.3 * p + 0.7 * q)[ROWS], y[..., None], -1)[..., 0]
    own, theirs = (
        np.take_along_axis(x[ROWS], y[..., None], -1)[..., 0] for x in (q, p)
    )
    weights, gaps = own / drawn, np.log(theirs / own)
    follows = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1] - gaps
    shares = np.prod(drawn, axis=1)

    def objective(student):
        log_q, log_p = (log_softmax(x)[ROWS] for x in (student, TEACHER))
        values = np.sum(np.exp(log_q) * (log_q - log_p), axis=-1)
        values -= follows * np.take_along_axis(log_q, y[..., None], -1)[..., 0]
        return np.sum(shares[:, None] * weights * values)

    for gradient in expected_gradient(*float32(STUDENT, shares, np.log(drawn))):
        np.testing.assert_allclose(gradient, slopes(objective), atol=2e-6)


def float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def slopes(function, step=1e-5):
    """Finite differences at the student's table."""
    computed = np.zeros_like(STUDENT)
    for at in np.ndindex(*STUDENT.shape):
        change = np.zeros_like(STUDENT)
        change[at] = step
        up, down = function(STUDENT + change), function(STUDENT - change)
        computed[at] = (up - down) / (2 * step)
    return computed


def test_a_token_is_followed_by_those_that_count():
    values = np.float32([[1.0, 2.0, np.nan, 4.0]])
    mask = np.array([[True, True, False, True]])
    means, sums = jax.jit(
        lambda *of: [sampled.of_followers(*of, over=over) for over in ("mean", "sum")]
    )(values, mask)
    np.testing.assert_allclose(means[0, mask[0]], [3.0, 4.0, 0.0])
    np.testing.assert_allclose(sums[0, mask[0]], [6.0, 4.0, 0.0])


def test_a_wrong_field_is_named_with_its_value():
    with pytest.raises(ValueError, match="long_term must not be negative, got -1"):
        losses.MiniLLM(long_term=-1.0)
    with pytest.raises(ValueError, match="must be finite, got nan"):
        losses.MiniLLM(long_term=float("nan"))
    with pytest.raises(ValueError, match="MiniLLM wants a live teacher"):
        losses.MiniLLM().check_records(
            losses.RecordSpec(mode="top_k", temperatures=(1.0,))
        )
    with pytest.raises(ValueError, match="over must be one of mean, sum"):
        losses.MiniLLM(over="all")  # pyright: ignore[reportArgumentType]
