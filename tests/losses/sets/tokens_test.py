"""Relations between sampled tokens, beside float64 loops."""

import functools

import jax
import numpy as np
import pytest

from losses import functional

RANDOM = np.random.default_rng(3)
STUDENT, TEACHER = RANDOM.normal(size=(9, 4)), RANDOM.normal(size=(9, 6))
THERE = np.arange(9) % 4 != 2


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x)))


def graph_by_hand(student, teacher, neighbors, width):
    total = 0.0
    if width is None:  # the mean of each side
        both = [np.sum((x[:, None] - x) ** 2, -1) for x in (student, teacher)]
        near = np.argsort(both[1] + np.diag([np.inf] * len(student)))[:, :neighbors]
        width = [np.take_along_axis(x, near, 1).mean() for x in both]
    widths = np.broadcast_to(width, 2)
    for i in range(len(student)):
        apart = [np.sum((x[i] - x) ** 2, -1) for x in (student, teacher)]
        near = [j for j in np.argsort(apart[1], kind="stable") if j != i][:neighbors]
        inside = np.isin(np.arange(len(student)), near)
        log_q, log_p = (
            log_softmax(np.where(inside, np.exp(-x / (2 * w)), 0.0))
            for x, w in zip(apart, widths, strict=True)
        )
        total += np.sum(np.exp(log_q) * (log_q - log_p))
    return total / len(student)


def test_the_graph_of_tokens_is_that_of_its_formula_and_of_rotated_features():
    graph = jax.jit(
        functools.partial(functional.token_graph, neighbors=3, width=2.0),
    )
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(4, 4)))
    expected = graph_by_hand(STUDENT[THERE], TEACHER[THERE], 3, 2.0)
    for student in (STUDENT, STUDENT @ rotation + 5.0):
        value = graph(np.float32(student), np.float32(TEACHER), THERE)
        np.testing.assert_allclose(value, expected, rtol=2e-4)


def test_a_graph_of_wide_tokens_is_that_of_its_own_width():
    wide = 30.0 * STUDENT
    expected = graph_by_hand(wide[THERE], TEACHER[THERE], 3, None)
    graph = functools.partial(functional.token_graph, neighbors=3, width=None)
    value = jax.jit(graph)(np.float32(wide), np.float32(TEACHER), THERE)
    np.testing.assert_allclose(value, expected, rtol=2e-4)
    assert expected > 1e-3


@pytest.mark.slow  # the rows of the table have both
def test_tokens_are_told_apart_and_relate_within_a_row_as_printed():
    teacher, temperature = TEACHER[:, :4], 0.3
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (STUDENT, teacher)]
    scores = unit[0] @ unit[1].T / temperature
    expected = -np.mean([log_softmax(row)[i] for i, row in enumerate(scores)])
    arrays = np.float32(STUDENT), np.float32(teacher)
    value = functional.token_contrast(*arrays, temperature=temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-5)

    relations = [
        np.exp([log_softmax(row) for row in x @ x.T / np.sqrt(x.shape[1])])
        for x in (STUDENT, TEACHER)
    ]
    expected = np.mean((relations[0] - relations[1]) ** 2, axis=1)
    value = functional.token_context(np.float32(STUDENT), np.float32(TEACHER))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
