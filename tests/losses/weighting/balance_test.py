"""Groups and balances: their formulas, and the faults of the published one."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import losses
from losses import Group, LossTerm, MatchGradient, MatchValue, Uncertainty
from losses.core.batch_weights import BalanceInputs
from losses.weighting.weights import (
    balances,
    may_vanish,
    skipped_batches,
    term_reports,
    term_weights,
    weight_at_step,
)

positive = st.floats(1e-3, 1e3)


def term(name, weight=1.0):
    return LossTerm(name=name, loss=losses.CrossEntropy(), weight=weight)


def published(alpha, eps=1e-6):
    """The two-step balance of MaxText, as a list of terms."""
    feature = term("feature", MatchValue(to="soft", eps=eps))
    return [
        term("hard"),
        Group(
            name="kd",
            terms=[term("soft"), feature],
            weight=MatchValue(to="hard", scale=alpha, eps=eps),
        ),
    ]


def weigh(items, means, *, step=0, memory=None, params=None, inner=None):
    found = balances(items)
    memory = memory or {name: b.initial() for name, b in found.items()}
    params = params or {name: b.params() for name, b in found.items()}
    means = {name: jnp.asarray(x, jnp.float32) for name, x in means.items()}
    seen = BalanceInputs(
        step=jnp.int32(step), means=means, inner=inner, names=tuple(means)
    )
    return term_weights(items, seen, params, memory)


def skips(items, means, *, inner=None):
    """By balance, whether it skips a batch."""
    inputs = BalanceInputs(
        step=jnp.int32(0),
        means={name: jnp.float32(x) for name, x in means.items()},
        inner=inner,
        names=tuple(means),
    )
    result = skipped_batches(items, weigh(items, means, inner=inner), inputs)
    return {name: bool(x) for name, x in result.items()}


def objective(items, means):
    """Its value, weights held fixed."""
    effective = jax.lax.stop_gradient(weigh(items, means).effective)
    return sum(effective[name] * means[name] for name in means)


@functools.cache
def value_and_gradient(alpha):
    """Of the published balance, compiled."""
    return jax.jit(jax.value_and_grad(functools.partial(objective, published(alpha))))


@given(
    hard=positive,
    soft=positive,
    feature=positive,
    alpha=st.sampled_from([0.1, 0.7, 1.0, 10.0]),  # each is a program
)
def test_the_published_balance_is_its_formula_in_value_and_gradient(
    hard, soft, feature, alpha
):
    names = ("hard", "soft", "feature")
    means = dict(zip(names, map(np.float32, (hard, soft, feature)), strict=True))
    value, gradient = value_and_gradient(alpha)(means)
    # In float64; no gradient flows into either ratio.
    h, s, f = (np.float64(means[name]) for name in names)
    of_features = s / max(f, 1e-6)
    kd = s + f * of_features
    of_kd = alpha * h / max(kd, 1e-6)
    slopes = (1.0, of_kd, of_kd * of_features)
    np.testing.assert_allclose(value, h + of_kd * kd, rtol=1e-6)
    for name, slope in zip(names, slopes, strict=True):
        np.testing.assert_allclose(gradient[name], slope, rtol=1e-6)


def test_the_value_of_the_published_balance_is_that_of_the_hard_loss_alone():
    for soft, feature in [(1.0, 1.0), (100.0, 0.01), (1e-3, 5.0)]:
        means = {"hard": 2.0, "soft": soft, "feature": feature}
        np.testing.assert_allclose(objective(published(0.5), means), 3.0, rtol=1e-6)


def test_its_feature_gradient_grows_as_the_features_align():
    weights = [
        weigh(published(1.0), {"hard": 2.0, "soft": 1.0, "feature": f}).effective[
            "feature"
        ]
        for f in (1.0, 1e-2, 1e-4)
    ]
    np.testing.assert_allclose(weights, [1.0, 1e2, 1e4], rtol=1e-5)


def test_a_cap_bounds_it():
    capped = [term("hard"), term("kd", MatchValue(to="hard", cap=10.0))]
    found = weigh(capped, {"hard": 2.0, "kd": 1e-5})
    assert found.weights["kd"] == 10.0


def test_a_constant_factor_on_a_matched_loss_cancels():
    for factor in (0.1, 1.0, 10.0):
        found = weigh(
            published(1.0), {"hard": 2.0, "soft": 1.0, "feature": factor * 0.5}
        )
        np.testing.assert_allclose(found.effective["feature"] * factor, 2.0, rtol=1e-6)


def test_ratios_of_microbatches_would_be_another_objective():
    halves = [
        {"hard": 1.0, "soft": 1.0, "feature": 1.0},
        {"hard": 3.0, "soft": 1.0, "feature": 0.1},
    ]
    whole = {name: (halves[0][name] + halves[1][name]) / 2 for name in halves[0]}
    each = [weigh(published(1.0), half).effective["feature"] for half in halves]
    exact = weigh(published(1.0), whole).effective["feature"]
    assert abs(np.mean(each) - exact) > 5.0


@pytest.mark.parametrize("ratios", [[2.0, 4.0, 1.0], [0.0, 4.0, 1.0], [0.0, 0.0, 3.0]])
def test_an_average_over_steps_has_no_bias_from_its_start(ratios):
    items = [term("hard"), term("kd", MatchValue(to="hard", decay=0.9))]
    memory = None
    for step, ratio in enumerate(ratios):
        found = weigh(items, {"hard": ratio, "kd": 1.0}, step=step, memory=memory)
        memory = found.memory
    ages = 0.9 ** np.arange(len(ratios))[::-1]
    expected = np.sum(ages * ratios) / np.sum(ages)
    np.testing.assert_allclose(found.weights["kd"], expected, rtol=1e-6)


SKIPPED = [
    {"hard": 2.0, "kd": -1.0},
    {"hard": -2.0, "kd": 1.0},
    {"hard": 2.0, "kd": 0.0},
    {"hard": 2.0, "kd": math.nan},
    {"hard": math.inf, "kd": 1.0},
]


@pytest.mark.parametrize("means", SKIPPED)
def test_a_batch_without_a_ratio_is_skipped(means):
    items = [term("hard"), term("kd", MatchValue(to="hard"))]
    assert skips(items, means) == {"kd": True}
    assert weigh(items, means).weights["kd"] == 0.0
    assert skips(items, {"hard": 2.0, "kd": 1.0}) == {"kd": False}


@pytest.mark.parametrize("rounded", [-1e-8, -5e-7, 1e-8])
def test_a_divergence_that_rounds_below_zero_is_as_one_just_above(rounded):
    items = [term("hard"), term("kd", MatchValue(to="hard", cap=10.0))]
    means = {"hard": 2.0, "kd": rounded}
    assert skips(items, means) == {"kd": False}
    assert weigh(items, means).weights["kd"] == 10.0
    means = {"hard": rounded, "kd": 2.0}
    assert skips(items, means) == {"kd": False}
    np.testing.assert_allclose(weigh(items, means).weights["kd"], 0.0, atol=1e-8)
    items = [term("kd", Uncertainty())]
    assert skips(items, {"kd": rounded}) == {"kd": False}


@pytest.mark.parametrize("means", SKIPPED)
@pytest.mark.parametrize("where", [0, 1, 3])
def test_a_skipped_batch_leaves_the_average_as_it_was(means, where):
    """Of weights 0.9^age: a skipped step repeats the mean before it."""
    items = [term("hard"), term("kd", MatchValue(to="hard", decay=0.9))]
    ratios = [2.0, 4.0, 1.0]
    batches = [{"hard": ratio, "kd": 1.0} for ratio in ratios]
    batches.insert(where, means)
    memory, weights = None, []
    for step, batch in enumerate(batches):
        result = weigh(items, batch, step=step, memory=memory)
        memory = result.memory
        weights.append(float(result.weights["kd"]))
    assert weights[where] == 0.0
    filled = np.array(ratios)
    before = filled[:where]
    ages = 0.9 ** np.arange(where)[::-1]
    mean = np.sum(ages * before) / np.sum(ages) if where else filled[0]
    filled = np.insert(filled, where, mean)
    ages = 0.9 ** np.arange(4)[::-1]
    expected = np.sum(ages * filled) / np.sum(ages)
    if where < 3:
        np.testing.assert_allclose(weights[-1], expected, rtol=1e-5)
    after = weigh(items, {"hard": mean, "kd": 1.0}, step=4, memory=memory)
    expected = (0.9 * np.sum(ages * filled) + mean) / (0.9 * np.sum(ages) + 1.0)
    np.testing.assert_allclose(after.weights["kd"], expected, rtol=1e-5)


def test_a_gradient_that_is_not_finite_is_skipped():
    items = [term("hard"), term("kd", MatchGradient(to="hard", decay=0.9))]
    inner = jnp.asarray([[4.0, jnp.nan], [jnp.nan, jnp.nan]])
    result = weigh(items, {"hard": 1.0, "kd": 1.0}, inner=inner)
    assert result.weights["kd"] == 0.0 and result.memory["kd"]["sum"] < 0.0
    assert skips(items, {"hard": 1.0, "kd": 1.0}, inner=inner) == {"kd": True}


def test_a_learned_variance_skips_what_is_not_positive():
    items = [term("ce", Uncertainty())]
    for value in (-1.0, 0.0, math.nan, math.inf):
        assert skips(items, {"ce": value}) == {"ce": True}
    assert skips(items, {"ce": 3.0}) == {"ce": False}


def test_terms_of_weight_zero_are_in_no_measure():
    """A group of a clean term and one of weight 0 that is NaN, matched by value."""
    items = [
        term("hard"),
        Group(
            name="kd",
            terms=[term("soft"), term("watched", 0.0)],
            weight=MatchValue(to="hard"),
        ),
    ]
    means = {"hard": 2.0, "soft": 0.5, "watched": math.nan}
    result = weigh(items, means)
    assert result.weights["kd"] == 4.0
    reports = term_reports(items, result, {n: jnp.float32(x) for n, x in means.items()})
    assert reports["kd"].value == 0.5 and reports["watched"].contribution == 0.0
    inner = jnp.asarray([[4.0, 0.0, jnp.nan], [0.0, 1.0, jnp.nan], [jnp.nan] * 3])
    inputs = BalanceInputs(step=jnp.int32(0), inner=inner, names=tuple(means))
    assert inputs.gradient_norm({"soft": 2.0, "watched": 0.0}) == 2.0


def test_terms_that_only_numbers_weigh_cannot_vanish():
    items = [
        term("ce"),
        term("watched", 0.0),
        term("ramp", optax.linear_schedule(0.0, 1.0, 10)),
        Group(name="a", weight=0.0, terms=[term("in_zero")]),
        Group(name="b", terms=[term("in_one"), term("matched", MatchValue(to="ce"))]),
    ]
    assert may_vanish(items) == {"watched", "ramp", "in_zero", "matched"}


def test_gradients_are_matched_in_norm_and_groups_by_their_sum():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 50))
    inner = jnp.asarray(vectors @ vectors.T, jnp.float32)
    items = [
        term("hard"),
        Group(
            name="kd",
            terms=[term("soft", 0.5), term("feature", MatchGradient(to="soft"))],
            weight=MatchGradient(to="hard", scale=2.0),
        ),
    ]
    found = weigh(items, {"hard": 1.0, "soft": 1.0, "feature": 1.0}, inner=inner)
    hard, soft, feature = vectors
    ratio = np.linalg.norm(soft) / np.linalg.norm(feature)
    np.testing.assert_allclose(found.weights["feature"], ratio, rtol=1e-5)
    group = 0.5 * soft + ratio * feature
    expected = 2.0 * np.linalg.norm(hard) / np.linalg.norm(group)
    np.testing.assert_allclose(found.weights["kd"], expected, rtol=1e-5)


def test_a_learned_variance_settles_where_its_term_contributes_a_half():
    items = [term("ce", Uncertainty())]
    value, optimizer = 3.0, optax.sgd(0.1)
    params: Any = {"ce": {"log_variance": jnp.float32(0.0)}}
    state = optimizer.init(params)

    def total(params):
        found = weigh(items, {"ce": value}, params=params)
        return found.effective["ce"] * value + found.penalty

    gradient = jax.jit(jax.grad(total))

    @jax.jit
    def update(params, state):
        updates, state = optimizer.update(gradient(params), state)
        return optax.apply_updates(params, updates), state

    slope = gradient(params)["ce"]["log_variance"]
    np.testing.assert_allclose(slope, 0.5 - value, rtol=1e-6)
    for _ in range(400):
        params, state = update(params, state)
    np.testing.assert_allclose(
        params["ce"]["log_variance"], math.log(2 * value), atol=1e-3
    )


def test_groups_scale_their_terms_and_say_what_each_is_worth():
    items = [
        term("ce", 2.0),
        Group(
            name="kd",
            weight=optax.linear_schedule(0.0, 1.0, 10),
            terms=[
                term("kl", 3.0),
                Group(name="features", terms=[term("mse", 4.0)], weight=0.5),
            ],
        ),
    ]
    means = {"ce": jnp.float32(1.0), "kl": jnp.float32(2.0), "mse": jnp.float32(3.0)}
    found = weigh(items, means, step=5)
    assert found.effective == {"ce": 2.0, "kl": 1.5, "mse": 1.0}
    worth = term_reports(items, found, means)
    assert worth["kd"].value == 12.0
    assert worth["features"].value == 12.0
    assert worth["kd"].contribution == 6.0
    assert worth["mse"].contribution == 3.0
    np.testing.assert_allclose(worth["kd"].share, 6 / 8)
    np.testing.assert_allclose(worth["ce"].share, 2 / 8)


def test_a_number_stands_for_itself_and_a_schedule_for_its_step():
    assert weight_at_step(2, jnp.int32(7)) == 2.0
    schedule = optax.linear_schedule(0.0, 1.0, 10)
    np.testing.assert_allclose(weight_at_step(schedule, jnp.int32(5)), 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatchValue(to="a", decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: MatchValue(to="a", cap=0.0), "cap must be positive, got 0.0"),
        (lambda: Uncertainty(scale=-1.0), "scale must be positive, got -1.0"),
        (lambda: Group(name="a-b", terms=[]), "a group's name must be an identifier"),
        (lambda: Group(name="kd", terms=[]), "group 'kd' must hold at least one term"),
        (
            lambda: Group(name="kd", terms=[term("a")], weight=True),
            "weight of 'kd' must be a number or a function",
        ),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_term_of_unit_gradient_pulls_as_strongly_whatever_its_size():
    inner = jnp.array([[9.0, 1.0], [1.0, 1e-4]])
    inputs = BalanceInputs(step=jnp.int32(0), inner=inner, names=("a", "b"))
    for name, norm in (("a", 3.0), ("b", 0.01)):
        weight, _ = losses.UnitGradient(scale=2.0)(
            {name: jnp.float32(1.0)}, inputs, {}, {}
        )
        np.testing.assert_allclose(weight * norm, 2.0, rtol=1e-5)
    nothing = dataclasses.replace(inputs, inner=jnp.zeros((2, 2)))
    assert losses.UnitGradient()({"a": jnp.float32(1.0)}, nothing, {}, {})[0] == 0.0
