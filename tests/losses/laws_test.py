"""Laws of every loss, on one compiled step of all of `table.LOSSES`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from tests.losses import table
from tests.losses.poison import assert_clean, poisoned, sides
from tests.losses.table import LOSSES, arrays, batch_means, group, steps

# A loss that treats a part of its value as constant has not the gradient of its value.
DIFFERENTIABLE = [
    name
    for name, row in LOSSES.items()
    if not isinstance(
        row.loss,
        losses.AdaptiveKL
        | losses.Agreement
        | losses.Interpolated
        | losses.ToDi
        | losses.USKD,
    )
]
slow = pytest.mark.slow


def each(names):
    """Names of losses, of which those that are much like another are slow."""
    return [pytest.param(x, marks=slow) if x in table.ALIKE else x for x in names]


every_loss = pytest.mark.parametrize("name", each(LOSSES))


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


@functools.cache
def clean(names):
    """Each loss over the arrays as they are."""
    return steps(*arrays(), names=names)


@functools.cache
def shapes(shape):
    """Of each loss's values, over tokens of this shape."""

    def values(floats, fixed):
        count = jnp.sum(fixed["mask"], dtype=jnp.float32)
        sums = table.statistic_sums(LOSSES, floats, fixed)
        means = jax.tree.map(lambda value: value / count, sums)
        return table.values(LOSSES, floats, fixed, means)

    return jax.eval_shape(values, *arrays(shape))


@every_loss
@pytest.mark.parametrize("shape", [(4,), (2, 3, 2)])
def test_one_float32_value_per_token(name, shape):
    # dear: compiles the program of all losses, which the tests below run again.
    for values, tokens in (
        (shapes(shape)[name], shape),
        (clean(group(name))[name].values, table.SHAPE),
    ):
        assert values.shape == tokens
        assert values.dtype == jnp.float32


@functools.cache
def poisoned_where_masked(names):
    """Each loss over poison at masked tokens of every array."""
    floats, fixed = arrays()
    return steps(poisoned(floats, ~np.asarray(fixed["mask"])), fixed, names=names)


@every_loss
def test_masked_tokens_count_nothing_and_get_exactly_zero_gradient(name):
    masked = ~np.asarray(arrays()[1]["mask"])
    names = group(name)
    actual, expected = poisoned_where_masked(names)[name], clean(names)[name]
    np.testing.assert_array_equal(actual.total, expected.total)
    for path, grad in actual.grads.items():
        assert not np.any(grad[masked]), path
        np.testing.assert_array_equal(grad, expected.grads[path])


@functools.cache
def poisoned_beside(names, *, weight, everywhere):
    """By side, each loss beside a term that counts all, with and without poison."""
    floats, fixed = arrays()
    where = np.ones(table.SHAPE, bool) if everywhere else ~np.asarray(fixed["mask"])
    results = {}
    for side, (paths, scales) in sides(floats).items():
        scales = scales + (weight - 1.0) * table.ALONE
        inputs = poisoned(floats, where, paths)
        results[side] = [
            steps(x, fixed, scales=scales, names=names) for x in (inputs, floats)
        ]
    return results


@every_loss
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_token_that_another_term_counts_harms_no_term_that_does_not(name, side):
    results = poisoned_beside(group(name), weight=1.0, everywhere=False)
    actual, expected = results[side]
    assert_clean(actual[name], expected[name])


@every_loss
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_weight_zero_adds_exactly_nothing(name, side):
    results = poisoned_beside(group(name), weight=0.0, everywhere=True)
    (total, _, grads), expected = (of_names[name] for of_names in results[side])
    assert_clean((total, grads), (expected.total, expected.grads))


@functools.cache
def labels_alone():
    """Cross-entropy of all tokens."""
    floats, fixed = arrays()
    fixed |= {"mask": np.ones(table.SHAPE, bool)}
    return steps(floats, fixed, names=("cross_entropy",))["cross_entropy"]


@every_loss
def test_beside_weight_zero_another_term_is_what_it_is_alone(name):
    results = poisoned_beside(group(name), weight=0.0, everywhere=True)
    actual = results["teacher"][1][name]
    expected = labels_alone()
    np.testing.assert_allclose(actual.total, expected.total, rtol=1e-6)
    np.testing.assert_allclose(
        actual.grads["logits"], expected.grads["logits"], atol=1e-6
    )


@functools.cache
def sums_of_blocks(names):
    """By loss, the sums of its values over blocks of one row each."""
    floats, fixed = arrays()
    means = batch_means(floats, fixed, names)
    totals = dict.fromkeys(names, 0.0)
    for start in range(table.SHAPE[0]):
        block = jax.tree.map(lambda x, at=start: x[at : at + 1], (floats, fixed))
        for name, values in table.compiled_values(names)(*block, means).items():
            totals[name] += float(np.sum(values))
    return totals


@every_loss
def test_blocks_of_tokens_sum_to_the_whole(name):
    # dear: compiles all losses over one row.
    actual, expected = sums_of_blocks(group(name)), clean(group(name))
    np.testing.assert_allclose(actual[name], expected[name].total, rtol=1e-6)


@functools.cache
def extreme(names):
    """Each loss where every array holds 1e4 and -1e4."""
    floats, fixed = arrays()
    extremes = jax.tree.map(lambda x: np.sign(x) * np.float32(1e4), floats)
    return steps(extremes, fixed, names=names)


@every_loss
def test_finite_at_extreme_logits(name):
    total, _, grads = extreme(group(name))[name]
    assert np.isfinite(total)
    assert all(np.all(np.isfinite(x)) for x in grads.values())


STEP = 1e-2


@functools.cache
def along_a_line(names):
    """A direction of the student's arrays, and each loss half a step either way."""
    floats, fixed = arrays()
    means, random = batch_means(floats, fixed, names), np.random.default_rng(0)
    line = {
        path: random.normal(size=x.shape) * (not path.startswith("teacher/"))
        for path, x in floats.items()
    }

    def at(distance):
        moved = {
            path: np.float32(x + distance * line[path]) for path, x in floats.items()
        }
        return steps(moved, fixed, means, names=names)

    return line, at(-STEP / 2), at(STEP / 2)


@pytest.mark.parametrize("name", each(DIFFERENTIABLE))
def test_gradient_agrees_with_finite_differences(name):
    names = group(name)
    line, before, after = along_a_line(names)
    count = max(float(np.sum(arrays()[1]["mask"])), 1.0)
    difference = (after[name].total - before[name].total) / STEP / count
    slopes = {
        path: np.sum(x * line[path]) for path, x in clean(names)[name].grads.items()
    }
    slope = sum(slopes.values()) / count
    np.testing.assert_allclose(difference, slope, atol=5e-3, rtol=5e-3)


@functools.cache
def with_another(names, path):
    """Each loss where one array is another."""
    floats, fixed = arrays()
    another = np.sin(np.float32(2.0) * floats[path] + np.float32(1.0))
    return steps(floats | {path: another}, fixed, names=names)


@every_loss
def test_reads_only_what_it_needs(name):
    names = group(name)
    for path in arrays()[0]:
        another = with_another(names, path)[name].total
        difference = another - clean(names)[name].total
        assert (difference != 0.0) == (path in LOSSES[name].loss.needs), path
