"""Laws of every loss, on one compiled step a row of `table.LOSSES`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_vjp

import losses
from losses.core import term_values
from tests.losses import table
from tests.losses.table import LOSSES, arrays, batch_means, step
from tests.losses.tiles import BY_SUMS, WIDTH, compiled_tiles

# A loss that treats a part of its value as constant has not the gradient of its value.
DIFFERENTIABLE = [
    name for name, row in LOSSES.items() if not isinstance(row.loss, losses.AdaptiveKL)
]
every_loss = pytest.mark.parametrize("name", LOSSES)


def test_every_loss_has_its_row():
    public = {getattr(losses, name) for name in losses.__all__}
    concrete = {
        x
        for x in public
        if isinstance(x, type)
        and issubclass(x, losses.Loss)
        and not getattr(x, "__abstractmethods__", None)
    }
    assert concrete == {type(row.loss) for row in LOSSES.values()}


def test_every_divergence_has_a_row_over_records():
    whole, stored = (
        {type(row.loss) for row in LOSSES.values() if (row.teacher == "whole") is full}
        for full in (True, False)
    )
    assert {x for x in whole if issubclass(x, losses.Divergence)} == stored


@every_loss
@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 2)])
def test_one_float32_value_per_token(name, shape):
    def values(floats, fixed):
        row, count = LOSSES[name], jnp.sum(fixed["mask"], dtype=jnp.float32)
        term = losses.LossTerm(name="term", loss=row.loss)
        sums = term_values.statistic_sums(
            [term], table.outputs(row, floats, fixed), masks={"term": fixed["mask"]}
        )
        means = {key: value / count for key, value in sums["term"].items()}
        return table.values(row, floats, fixed, means)

    result = jax.eval_shape(values, *arrays(shape))
    assert result.shape == shape
    assert result.dtype == jnp.float32


def poisoned(floats, where, paths=None):
    """NaN, inf and -inf in turn at some tokens, in some arrays or in all."""

    def poison(x):
        wide = where.reshape(where.shape + (1,) * (x.ndim - where.ndim))
        values = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), x.shape)
        return jnp.where(wide, values, x)

    chosen = floats if paths is None else paths
    return floats | {path: poison(floats[path]) for path in chosen}


@functools.cache
def poisoned_arrays():
    """Poison at masked tokens in every array."""
    floats, fixed = arrays()
    return poisoned(floats, ~fixed["mask"]), fixed


@every_loss
def test_masked_tokens_count_nothing_and_get_exactly_zero_gradient(name):
    floats, fixed = poisoned_arrays()
    masked = ~np.asarray(fixed["mask"])
    poisoned, clean = step(name, floats, fixed), step(name, *arrays())
    np.testing.assert_array_equal(poisoned.total, clean.total)
    for path, grad in poisoned.grads.items():
        assert not np.any(np.asarray(grad)[masked]), path
        np.testing.assert_array_equal(grad, clean.grads[path])


def sides():
    """By side, what is poisoned, and the weights of a term that counts it unharmed."""
    floats, _ = arrays()
    theirs = [path for path in floats if path.startswith("teacher/")]
    ours = [path for path in floats if path not in (*theirs, "free")]
    return {
        "student": (ours, table.BESIDE_FREE),
        "teacher": (theirs, table.BESIDE_LABELS),
    }


@functools.cache
def run_of(name):
    """`floats, scales -> total, grads`, over rows and, where it can, over tiles."""
    _, fixed = arrays()

    def over_rows(floats, means, scales):
        result = step(name, floats, fixed, means, scales)
        return result.total, result.grads

    def over_tiles(floats, means, scales):
        del means
        return compiled_tiles(name, WIDTH)(floats, fixed, scales)

    return [over_rows, over_tiles] if name in BY_SUMS else [over_rows]


def assert_clean(results, expected):
    """Finite, and equal bit for bit."""
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(results))
    jax.tree.map(np.testing.assert_array_equal, results, expected)


@every_loss
def test_a_token_that_another_term_counts_harms_no_term_that_does_not(name):
    floats, fixed = arrays()
    for paths, scales in sides().values():
        poison = poisoned(floats, ~fixed["mask"], paths)
        means = batch_means(name, poison, fixed)
        for run in run_of(name):
            clean = run(floats, batch_means(name, floats, fixed), scales)
            assert_clean(run(poison, means, scales), clean)


@every_loss
def test_weight_zero_adds_exactly_nothing(name):
    floats, fixed = arrays()
    for paths, scales in sides().values():
        scales = scales - table.ALONE
        poison = poisoned(floats, jnp.ones_like(fixed["mask"]), paths)
        means = batch_means(name, poison, fixed)
        for run in run_of(name):
            clean = run(floats, batch_means(name, floats, fixed), scales)
            assert_clean(run(poison, means, scales), clean)
    labels = step(
        "cross_entropy", floats, fixed | {"mask": jnp.ones_like(fixed["mask"])}
    )
    alone = step(name, floats, fixed, scales=table.BESIDE_LABELS - table.ALONE)
    np.testing.assert_allclose(alone.total, labels.total, rtol=1e-6)
    np.testing.assert_allclose(alone.grads["logits"], labels.grads["logits"], atol=1e-6)


@every_loss
def test_blocks_of_tokens_sum_to_the_whole(name):
    floats, fixed = arrays()
    means = batch_means(name, floats, fixed)
    total = 0.0
    for start in range(table.SHAPE[0]):
        block = jax.tree.map(lambda x, at=start: x[at : at + 1], (floats, fixed))
        total += float(np.sum(table.compiled_values(name)(*block, means)))
    np.testing.assert_allclose(total, step(name, floats, fixed).total, rtol=1e-6)


@every_loss
def test_finite_at_extreme_logits(name):
    floats, fixed = arrays()
    extreme = jax.tree.map(lambda x: jnp.sign(x) * 1e4, floats)
    result = step(name, extreme, fixed)
    assert np.isfinite(result.total)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result.grads))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_agrees_with_finite_differences(name):
    floats, fixed = arrays()
    means = batch_means(name, floats, fixed)
    teacher = {path: x for path, x in floats.items() if path.startswith("teacher/")}
    student = {path: x for path, x in floats.items() if path not in teacher}
    count = max(float(np.sum(fixed["mask"])), 1.0)

    def mean(student):
        return step(name, student | teacher, fixed, means).total / count

    def mean_vjp(student):
        result = step(name, student | teacher, fixed, means)
        grads = {path: result.grads[path] / count for path in student}
        return result.total / count, lambda cotangent: (
            jax.tree.map(lambda grad: cotangent * grad, grads),
        )

    check_vjp(mean, mean_vjp, (student,), eps=1e-2, atol=5e-3, rtol=5e-3)


@every_loss
def test_reads_only_what_it_needs(name):
    floats, fixed = arrays()
    total = step(name, floats, fixed).total
    for path in floats:
        changed = floats | {path: jnp.sin(2.0 * floats[path] + 1.0)}
        difference = float(step(name, changed, fixed).total - total)
        assert (difference != 0.0) == (path in LOSSES[name].loss.needs), path
