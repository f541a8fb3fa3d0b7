import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import functional as F
from losses.core.term_values import evaluate

PAIR = losses.IncompatibleLoss


def batch(**columns):
    """A pair of 3 and 2 targets after two of the prompt; a row of the chosen alone."""
    segments = [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0, 0, 0]]
    mask = [[0, 1, 1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 0, 0, 0]]
    return {
        "targets": jnp.arange(16).reshape(2, 8) % 5,
        "mask": jnp.array(mask, bool),
        "segment_ids": jnp.array(segments),
        **columns,
    }


def outputs(logits, teacher=None, **columns):
    teacher = None if teacher is None else losses.TeacherOutputs(logits=teacher)
    return losses.FullOutputs(batch=batch(**columns), logits=logits, teacher=teacher)


def draw(seed):
    return np.random.default_rng(seed).normal(size=(2, 8, 5)).astype(np.float32)


def mean(loss, outputs):
    """The mean over what the term counts, and the count."""

    @jax.jit
    def run(batch, logits, teacher):
        inputs = losses.FullOutputs(batch=batch, logits=logits, teacher=teacher)
        average = evaluate([losses.LossTerm(name="x", loss=loss)], inputs)["x"]
        return average.total / average.count, average.count

    return jax.device_get(run(outputs.batch, outputs.logits, outputs.teacher))


def by_hand(logits, over=np.sum, *, row=0):
    """Log-probabilities of both sequences of a row, float64; the second row has one."""
    s = np.asarray(logits, np.float64)[row]
    log_q = s - np.log(np.exp(s).sum(-1, keepdims=True))
    log_q = log_q[np.arange(8), np.arange(8 * row, 8 * row + 8) % 5]
    return over(log_q[1:4]), over(log_q[5:7]) if row == 0 else 0.0


def test_one_token_a_whole_pair_counts():
    expected = np.zeros((2, 8), bool)
    expected[0, 1] = True
    np.testing.assert_array_equal(losses.pair_mask(batch()), expected)
    expected[1, 1] = True
    np.testing.assert_array_equal(losses.sequence_mask(batch()), expected)
    chosen = [[0, 1, 1, 1, 0, 0, 0, 0]] * 2
    np.testing.assert_array_equal(losses.chosen_mask(batch()), np.array(chosen, bool))


@pytest.mark.parametrize("over", ["sum", "mean"])
def test_dpo_is_that_of_log_probabilities_of_sequences(over):
    of = {"sum": np.sum, "mean": np.mean}[over]
    (w, lose), (w0, l0) = (by_hand(draw(seed), of) for seed in (0, 1))
    value, count = mean(losses.DPO(over=over), outputs(draw(0), draw(1)))
    h = (w - w0) - (lose - l0)
    np.testing.assert_allclose(value, np.log1p(np.exp(-0.1 * h)), rtol=1e-5)
    assert count == 1.0


@pytest.mark.parametrize("over", ["sum", "mean"])
def test_columns_stand_for_the_reference(over):
    w, lose = by_hand(draw(1))
    inputs = outputs(draw(0), ref_w=jnp.array([w, 0.0]), ref_l=jnp.array([lose, 0.0]))
    loss = losses.DPO(reference=("ref_w", "ref_l"), over=over)
    assert loss.needs == {"logits"}
    expected, _ = mean(losses.DPO(over=over), outputs(draw(0), draw(1)))
    np.testing.assert_allclose(mean(loss, inputs)[0], expected, rtol=1e-6)


def test_at_the_reference_dpo_is_log_2_and_its_slope_minus_half_beta():
    def value(shift):
        # Adds `shift` to the chosen's log-probability alone.
        return jnp.sum(F.dpo(-3.0 + shift, -5.0, -3.0, -5.0, beta=0.3))

    at_reference, slope = jax.value_and_grad(value)(0.0)
    np.testing.assert_allclose(at_reference, math.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(slope, -0.15, rtol=1e-6)
    same, _ = mean(losses.DPO(), outputs(draw(0), draw(0)))
    np.testing.assert_allclose(same, math.log(2.0), rtol=1e-6)


def test_swapped_halves_turn_the_gradient_round_at_the_reference():
    slopes = jax.grad(lambda w, lose: F.dpo(w, lose, -3.0, -5.0), (0, 1))(-3.0, -5.0)
    np.testing.assert_allclose(slopes[0], -slopes[1], rtol=1e-6)


@pytest.mark.parametrize("reference", [None, ("ref_w", "ref_l"), "none"])
@pytest.mark.parametrize("seed", [0, 5])
def test_metrics_are_the_share_and_the_margin_of_rewards(reference, seed):
    (w, lose), (w0, l0) = by_hand(draw(seed)), by_hand(draw(1))
    columns = {"ref_w": jnp.array([w0, 0.0]), "ref_l": jnp.array([l0, 0.0])}
    inputs = outputs(draw(seed), draw(1), **columns)
    h = w - lose if reference == "none" else (w - w0) - (lose - l0)
    margin, count = mean(losses.RewardMargin(reference=reference, beta=0.5), inputs)
    np.testing.assert_allclose(margin, 0.5 * h, rtol=1e-5)
    accuracy, _ = mean(losses.PairAccuracy(reference=reference), inputs)
    assert (accuracy, count) == (float(h > 0), 1.0)


def test_at_the_reference_no_pair_is_the_right_way_round():
    assert mean(losses.PairAccuracy(), outputs(draw(0), draw(0)))[0] == 0.0
    assert losses.PairAccuracy(reference="none").needs == {"logits"}
    with pytest.raises(ValueError, match="reference of PairAccuracy must be the names"):
        losses.PairAccuracy(reference="some")


def test_ties_have_the_floor_of_rao_and_kupper():
    d = jnp.linspace(-4.0, 4.0, 9)
    tie = jnp.ones(9)
    values = F.bradley_terry(d, tie, margin=3.0)
    np.testing.assert_allclose(values[4], 6.0972, atol=5e-5)
    np.testing.assert_allclose(values, values[::-1], rtol=1e-6)
    assert np.argmin(values) == 4
    # P(win) + P(loss) + P(tie) = 1.
    win, loss = (np.exp(-np.float64(F.bradley_terry(x, margin=3.0))) for x in (d, -d))
    ties = np.expm1(6.0) * np.exp(-np.float64(values))
    np.testing.assert_allclose(win + loss + ties, 1.0, rtol=1e-5)
    plain = F.dpo(d, 0.0, 0.0, 0.0, beta=1.0)
    np.testing.assert_allclose(F.bradley_terry(d), plain, rtol=1e-6)


def test_a_tie_is_read_from_its_column():
    loss = losses.BradleyTerry(margin=3.0, tie="tie")
    inputs = outputs(draw(0), draw(0), tie=jnp.array([True, False]))
    np.testing.assert_allclose(mean(loss, inputs)[0], 6.0972, atol=5e-5)


def test_odds_of_a_certain_completion_are_finite():
    value, slope = jax.value_and_grad(F.odds_ratio)(0.0, -1.0)
    assert np.isfinite(value) and slope == 0.0


def test_kto_is_a_half_at_the_reference():
    inputs = outputs(draw(0), draw(0), desirable=jnp.array([1, 0]))
    value, count = mean(losses.KTO(), inputs)
    np.testing.assert_allclose(value, 0.5, rtol=1e-6)
    assert count == 2.0


@pytest.mark.parametrize("seeds", [(0, 1), (1, 0)])
def test_kto_takes_its_baseline_over_the_batch(seeds):
    student, teacher = map(draw, seeds)
    inputs = outputs(student, teacher, desirable=jnp.array([1, 0]))
    rows = [
        np.subtract(by_hand(student, row=i), by_hand(teacher, row=i)) for i in (0, 1)
    ]
    z = max(0.0, (rows[0][1] + rows[1][1]) / 2)
    good = 1 / (1 + np.exp(0.1 * (rows[0][0] - z)))
    bad = 1.5 / (1 + np.exp(-0.1 * (rows[1][0] - z)))
    value, _ = mean(losses.KTO(undesirable_weight=1.5), inputs)
    np.testing.assert_allclose(value, (good + bad) / 2, rtol=1e-5)


def test_a_pair_without_a_reference_is_refused():
    with pytest.raises(PAIR, match=r"there is none: give a teacher, or the columns"):
        mean(losses.DPO(), outputs(draw(0)))
    with pytest.raises(PAIR, match=r"the rows have no column 'w', .*data.Columns"):
        mean(losses.DPO(reference=("w", "l")), outputs(draw(0)))
    stored = losses.TeacherOutputs(
        indices=jnp.zeros((2, 8, 1), jnp.int32), logits=jnp.zeros((2, 8, 1))
    )
    inputs = losses.FullOutputs(batch=batch(), logits=draw(0), teacher=stored)
    with pytest.raises(PAIR, match="gives stored entries: give a model"):
        mean(losses.DPO(), inputs)
    spec = losses.RecordSpec(mode="top_k", temperatures=(1.0,))
    with pytest.raises(ValueError, match="DPO wants the reference's probability"):
        losses.DPO().check_records(spec)
    losses.DPO(reference=("w", "l")).check_records(spec)


REFUSED = {
    "beta": (lambda: losses.DPO(beta=0.0), "beta must be positive and finite, got 0.0"),
    "smoothing": (lambda: losses.DPO(label_smoothing=0.5), r"must be in \[0, 0.5\)"),
    "over": (lambda: losses.IPO(over="max"), "over must be one of sum, mean"),
    "reference": (lambda: losses.DPO(reference="w"), "the names of two columns"),
    "margin": (lambda: losses.BradleyTerry(margin=-1.0), "margin must be at least 0"),
    "weight": (lambda: losses.KTO(desirable_weight=-1.0), "desirable_weight must be"),
    "simpo": (lambda: losses.SimPO(margin=math.inf), "margin must be finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_number_out_of_range_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()
