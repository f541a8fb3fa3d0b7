"""Token weights that are made from the whole batch, by hand and by identities."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from losses import LearningProgress, RelativeLoss, RowTable, Span
from losses.core.batch_weights import BatchValues


@functools.cache
def compiled(reweighting):
    return jax.jit(lambda arrays, memory: reweighting(BatchValues(**arrays), memory))


def weigh(reweighting, batch, memory):
    """Token weights and new memory, by one program of a reweighting and a shape."""
    return jax.device_get(compiled(reweighting)(vars(batch), memory))


def spread(of_rows, *, step=0, index=None, mask=None):
    """Two tokens a row, each worth what the row is."""
    values = np.repeat(np.asarray(of_rows, np.float32)[:, None], 2, axis=1)
    mask = np.ones(values.shape, bool) if mask is None else np.asarray(mask)
    index = np.arange(len(values)) if index is None else index
    return BatchValues(
        values=np.where(mask, values, np.float32(0.0)),
        mask=mask,
        batch={"index": np.asarray(index, np.int32)},
        step=np.int32(step),
    )


def of_rows(reweighting, *arguments, **options):
    weights, _ = weigh(reweighting, spread(*arguments, **options), {})
    return weights[:, 0]


NUMBERS = (2, 5, 9)  # of rows: each is a shape of its own, and compiled
rows = st.sampled_from(NUMBERS).flatmap(
    lambda n: st.lists(st.floats(-10, 10, width=32), min_size=n, max_size=n)
)
forms = st.sampled_from(["upper", "quadratic", "extremes"])


@given(rows=rows, form=forms)
def test_relative_weights_have_mean_one(rows, form):
    weights = of_rows(RelativeLoss(form=form, spread=0.4), rows)
    np.testing.assert_allclose(np.mean(weights), 1.0, rtol=1e-5)


def test_relative_weights_by_hand():
    losses, spread_ = np.array([1.0, 2.0, 4.0, 5.0]), 0.4
    h = np.array([-1.0, -0.5, 0.5, 1.0])
    for form, f in [
        ("upper", np.minimum(h + 1.0, 1.0)),
        ("quadratic", 1.0 - h**2),
        ("extremes", np.abs(h)),
    ]:
        share = np.exp(f / spread_) / np.sum(np.exp(f / spread_))
        found = of_rows(RelativeLoss(form=form, spread=spread_), losses)
        np.testing.assert_allclose(found, 4 * share, rtol=1e-5)


def test_relative_weights_do_not_move_with_the_scale_of_the_loss():
    rows = np.array([0.3, 1.0, 2.5, 0.9])
    plain = of_rows(RelativeLoss(), rows)
    np.testing.assert_allclose(of_rows(RelativeLoss(), 7 * rows + 3), plain, rtol=1e-4)


def test_equal_rows_have_equal_weights():
    np.testing.assert_array_equal(of_rows(RelativeLoss(), np.full(4, 2.0)), np.ones(4))


def test_rows_without_a_token_that_counts_are_left_out():
    mask = np.array([[True, True], [False, False], [True, False]])
    found = of_rows(RelativeLoss(spread=0.5), [1.0, 100.0, 2.0], mask=mask)
    top = 2 / (1 + np.exp(-1 / 0.5))
    np.testing.assert_allclose(found, [2 - top, 0.0, top], rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_left_out(value):
    weights = of_rows(RelativeLoss(spread=0.5), [1.0, value, 2.0])
    top = 2 / (1 + np.exp(-1 / 0.5))
    np.testing.assert_allclose(weights, [2 - top, 0.0, top], rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_leaves_no_trace(value):
    progress = LearningProgress(num_rows=3, sharpness=2.0)
    _, memory = weigh(progress, spread([3.0, 1.0], index=[0, 1]), progress.initial())
    _, after = weigh(progress, spread([value, value], index=[0, 2]), memory)
    np.testing.assert_array_equal(after["loss"], memory["loss"])
    np.testing.assert_array_equal(after["seen"], memory["seen"])


def test_relative_weights_are_one_to_begin_with():
    early = of_rows(RelativeLoss(after=10), [1.0, 5.0], step=9)
    np.testing.assert_array_equal(early, np.ones(2))
    assert of_rows(RelativeLoss(after=10), [1.0, 5.0], step=10)[0] < 1.0


def test_progress_is_measured_against_the_last_time_a_row_was_seen():
    progress = LearningProgress(num_rows=5, sharpness=2.0)
    first, memory = weigh(
        progress, spread([3.0, 1.0], index=[4, 2]), progress.initial()
    )
    np.testing.assert_array_equal(first, np.ones((2, 2)))
    found, memory = weigh(progress, spread([3.0, 0.5], index=[4, 2]), memory)
    expected = 2 * (1 - 1 / (1 + np.exp(-2.0 * (1.0 - 0.5))))
    np.testing.assert_allclose(found[:, 0], [1.0, expected], rtol=1e-6)
    np.testing.assert_array_equal(memory["loss"], [0.0, 0.0, 0.5, 0.0, 3.0])
    np.testing.assert_array_equal(memory["seen"], [False, False, True, False, True])


@given(before=st.floats(0, 10), now=st.floats(0, 10), more=st.floats(0.01, 1))
def test_progress_weights_are_bounded_and_fall_with_progress(before, now, more):
    progress = LearningProgress(num_rows=1, sharpness=20.0)
    _, memory = weigh(progress, spread([before]), progress.initial())
    here = float(weigh(progress, spread([now]), memory)[0][0, 0])
    there = float(weigh(progress, spread([now + more]), memory)[0][0, 0])
    assert 0.5 <= here <= there <= 5.0


def test_a_row_that_a_batch_holds_twice_is_remembered_by_the_mean():
    progress = LearningProgress(num_rows=2)
    _, memory = weigh(progress, spread([1.0, 3.0], index=[1, 1]), progress.initial())
    np.testing.assert_array_equal(memory["loss"], [0.0, 2.0])


def test_a_table_is_read_once_and_weighs_rows(tmp_path):
    path = tmp_path / "table.npy"
    np.save(path, np.array([0.5, 2.0, 1.0]))
    table = RowTable(path=str(path), num_rows=3)
    weights, _ = weigh(table, spread([0.0, 0.0], index=[1, 0]), table.initial())
    np.testing.assert_array_equal(weights[:, 0], [2.0, 0.5])
    with pytest.raises(ValueError, match=r"expected shape \(4,\), got \(3,\)"):
        RowTable(path=str(path), num_rows=4).initial()


def test_a_span_ends_with_its_marker_or_its_document():
    tokens = np.array([[5, 7, 5, 5, 8, 5, 7, 5, 5, 5]])
    positions = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1]])
    seen = BatchValues(
        values=None,
        mask=np.ones((1, 10), bool),
        batch={"tokens": tokens, "positions": positions},
        step=np.int32(0),
    )
    weights, _ = weigh(Span(begin=7, end=8), seen, {})
    np.testing.assert_array_equal(weights[0], [0, 1, 1, 1, 0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RelativeLoss(form="lower"), "form must be one of"),
        (lambda: RelativeLoss(spread=0.0), "spread must be positive, got 0.0"),
        (lambda: RelativeLoss(after=-1), "after must not be negative, got -1"),
        (lambda: LearningProgress(num_rows=0), "num_rows must be positive, got 0"),
        (lambda: LearningProgress(num_rows=1, least=6.0), "least 6.0 must not exceed"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
