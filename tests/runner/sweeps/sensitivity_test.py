"""Learning-rate sensitivity: by hand, by the formula, and where it cannot be told."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from runner.sweeps import outcome, sensitivity, settings
from tests.runner.sweeps.sweeps import NAMES, RATE, UNTRAINED, Z_LOSS, made

LOSSES = st.lists(
    st.one_of(st.none(), st.just(math.nan), st.floats(0.0, 20.0)), min_size=1
)


def test_by_hand():
    # min(l, 8): 5, 4, 6, 8, 8; their mean is 6.2 and the least 4.
    found = sensitivity.sensitivity([5.0, 4.0, 6.0, 9.0, None], 8.0)
    assert found == pytest.approx(2.2)
    assert sensitivity.sensitivity([4.0, math.nan], 8.0) == pytest.approx(2.0)
    assert sensitivity.sensitivity([4.0, 4.0, 4.0], 8.0) == 0.0


@hypothesis.given(LOSSES, st.floats(0.1, 20.0))
def test_it_is_the_formula_of_the_paper(losses, untrained):
    known = [x for x in losses if x is not None and not math.isnan(x)]
    capped = [min(x, untrained) for x in known]
    capped += [untrained] * (len(losses) - len(known))
    # l* of the paper is the best loss; a sweep of which all diverged has none.
    best = min([*known, untrained])
    expected = np.mean(capped) - best
    found = sensitivity.sensitivity(losses, untrained)
    assert found == pytest.approx(expected, abs=1e-9)
    assert found >= -1e-12


@hypothesis.given(LOSSES, st.floats(-5.0, 5.0))
def test_a_shift_of_all_losses_changes_nothing(losses, shift):
    moved = [None if x is None else x + shift for x in losses]
    one = sensitivity.sensitivity(losses, 10.0)
    assert sensitivity.sensitivity(moved, 10.0 + shift) == pytest.approx(one, abs=1e-9)


def along(directory, ended):
    found = made(directory, ended)
    return settings.along(outcome.read(found), RATE, NAMES)


def test_each_setting_of_all_else_has_its_own(tmp_path):
    rates = (1e-1, 1e-3, 1e-2)  # in no order
    losses = ((6.0, "failed"), (5.0, 4.5), (4.0, 4.0))
    ended = [
        ({RATE: rate, Z_LOSS: weight}, loss)
        for rate, both in zip(rates, losses, strict=True)
        for weight, loss in zip((0.0, 1e-4), both, strict=True)
    ]
    found = along(tmp_path, ended)
    assert [one.label for one in found] == [
        "z_loss.weight=0.0",
        "z_loss.weight=0.0001",
    ]
    assert [list(one.values) for one in found] == [[1e-3, 1e-2, 1e-1]] * 2
    assert sensitivity.of(found[0]) == pytest.approx((5 + 4 + 6) / 3 - 4)
    assert sensitivity.of(found[1]) == pytest.approx((4.5 + 4 + UNTRAINED) / 3 - 4)
    assert sensitivity.without_loss(found) == ["01-peak_value=0.1-z_loss.weight=0.0001"]


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param([4.0, None], id="a unit has not begun"),
        pytest.param([4.0, ...], id="a unit is under way"),
        pytest.param([4.0], id="one learning rate"),
        pytest.param(["failed", "failed"], id="none has a loss"),
    ],
)
def test_it_waits_until_it_can_be_told(tmp_path, ends):
    (one,) = along(tmp_path, [({RATE: i + 1.0}, end) for i, end in enumerate(ends)])
    assert sensitivity.of(one) is None


def test_it_needs_the_loss_at_initialisation(tmp_path):
    found = made(tmp_path, [({RATE: 1.0}, 4.0), ({RATE: 2.0}, 5.0)], untrained=None)
    (one,) = settings.along(outcome.read(found), RATE, NAMES)
    assert sensitivity.of(one) is None


@pytest.mark.parametrize(
    ("keys", "rate"),
    [
        (["fdl.seed", RATE], RATE),
        (["fdl.optimizer[1].learning_rate"], "fdl.optimizer[1].learning_rate"),
        (["fdl.optimizer.a.init_value", RATE], RATE),
        (["fdl.optimizer.a.init_value"], "fdl.optimizer.a.init_value"),
        (["fdl.losses.ce.weight.init_value", "fdl.optimizer.b1"], None),
        (["fiddler"], None),
    ],
)
def test_which_flag_is_a_learning_rate(keys, rate):
    assert settings.learning_rate(keys) == rate
