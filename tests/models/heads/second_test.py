"""The second head: against float64, and its dropout and ghosts however it is cut."""

import functools

import jax
import numpy as np
import pytest

import models
from models.base import row_keys
from models.running.state import RUNNING
from runner.step import running
from tests.models.states import random_module

KEEP, GHOST, ROWS, EPS = 0.75, 4, 8, 1e-5


def two_headed(**norm):
    convnet = functools.partial(
        models.ConvNet, num_classes=3, widths=(4,), groups=2, **norm
    )
    return random_module(
        models.SecondHead, model=convnet, ghost=GHOST, hidden_dim=6, dropout=1 - KEEP
    )


def float64(head, hidden, *, kept=None):
    """Logits of rows; in training of one ghost, with what dropout has kept."""
    arrays = (head.kernel, head.bias, head.norm.scale, head.norm.offset)
    arrays += (head.last_kernel, head.last_bias)
    first, bias, scale, offset, last, last_bias = (
        np.asarray(x[...], np.float64) for x in arrays
    )
    inner = np.asarray(hidden, np.float64) @ first + bias
    mean, variance = np.asarray(head.norm.running[...], np.float64)
    if kept is not None:
        inner = np.where(kept, inner / KEEP, 0.0)
        mean, variance = inner.mean(0), inner.var(0)
    normed = (inner - mean) / np.sqrt(variance + EPS) * scale + offset
    return np.maximum(normed, 0.0) @ last.T + last_bias, np.stack([mean, variance])


def test_the_second_head_is_dropout_then_batch_norm_of_ghosts():
    head = two_headed().second
    hidden = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    keys = jax.vmap(jax.random.key)(np.arange(ROWS))
    logits, statistics = head.over_batch(hidden, keys)
    kept = [jax.random.bernoulli(jax.random.key(i), KEEP, (6,)) for i in range(ROWS)]
    kept = np.stack(kept)
    assert 0 < kept.sum() < kept.size
    observed = []
    for ghost in (slice(0, None, 2), slice(1, None, 2)):
        expected, of_ghost = float64(head, hidden[ghost], kept=kept[ghost])
        np.testing.assert_allclose(logits[ghost], expected, rtol=1e-4, atol=1e-5)
        observed.append(of_ghost.ravel())
    np.testing.assert_allclose(statistics, np.mean(observed, 0), rtol=1e-4, atol=1e-5)

    # Evaluated, it draws nothing and reads the running state.
    head.norm.running[...] = np.float32([[1] * 6, [4] * 6])
    expected, _ = float64(head, hidden)
    np.testing.assert_allclose(head(hidden), expected, rtol=1e-4, atol=1e-5)


def test_a_trunk_with_a_running_state_of_its_own_observes_both():
    model = two_headed(norm=functools.partial(models.BatchNorm, ghost=ROWS))
    paths = [path for path, _ in running.places(model)]
    assert [path[0] for path in paths] == ["second", "stages"]
    rows = {
        "images": np.random.default_rng(0).random((ROWS, 2, 2, 1), np.float32),
        "row_seed": np.arange(ROWS, dtype=np.uint32),
    }
    capture = frozenset({RUNNING, "second/logits"})
    trunk = jax.jit(lambda batch: model.trunk(batch, capture=capture))(rows)
    observed = np.asarray(trunk.intermediates[RUNNING])
    assert observed.shape == (2 * 6 + 2 * 4,)
    keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys(rows), 1)
    logits, of_second = model.second.over_batch(trunk.hidden, keys)
    np.testing.assert_allclose(observed[:12], of_second, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        trunk.intermediates["second/logits"], logits, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="SecondHead is of classifiers of images"):
        text = functools.partial(models.Transformer, vocab_size=9)
        random_module(models.SecondHead, model=text, ghost=GHOST)
