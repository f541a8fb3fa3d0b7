"""The picture of a sweep: axes that fit the values, crosses for what failed."""

import re

import pytest

from runner.report import swept, theme

UNIT = "held_out, nats per token"


def drawn(values, losses, **kwargs):
    line = swept.Line("", values, losses, **kwargs)
    return swept.svg([line], name="peak_value", unit=UNIT)


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ([1e-4, 3e-4, 1e-3], True),
        ([1, 2, 4, 8], True),
        ([1e-3, 1e-1], True),
        ([1, 2, 3, 4], False),
        ([64, 128, 192, 256], False),
        ([0.0, 1e-4, 1e-2], False),
        ([-1.0, 1.0], False),
        ([2.0], False),
    ],
)
def test_values_spaced_by_ratios_get_a_logarithmic_axis(values, logarithmic):
    assert swept.logarithmic(values) is logarithmic


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1e-4, 1e-3, 1e-2], ["1e-4", "0.001", "0.01"]),
        ([0.0, 1e-4, 1e-2], ["0", "1e-4", "0.01"]),
        ([1, 2, 3], ["1", "2", "3"]),
        (["wide(2)", "a_very_long_fiddler"], ["wide(2)", "a_very_long_fiddler"]),
        (["a" * 30, *"bc"], ["a" * 15 + "…", *"bc"]),
        (["losses.ForwardKL()", "losses.F(x=1)"], ["ForwardKL", "F(x=1)"]),
        ([True, None], ["True", "None"]),
    ],
)
def test_every_value_stands_at_the_foot(values, shown):
    said = texts(drawn(values, [4.0, 5.0, 4.5][: len(values)]))
    assert [text for text in said if text in shown] == shown
    assert "peak_value" in said and UNIT in said


def test_what_failed_is_a_cross_and_presses_nothing_flat():
    good = texts(drawn([1, 2, 3], [4.0, 4.1, 4.2]))
    bad = texts(drawn([1, 2, 3, 4, 5], [4.0, 4.1, 4.2, None, 30.0], untrained=8.0))
    assert UNIT in good
    assert f"{UNIT};  × failed, or worse than untrained (8.00)" in bad
    heights = [text for text in good if text.startswith("4.")]
    assert heights and heights == [text for text in bad if text.startswith("4.")]


def test_lines_have_colours_names_and_a_dark_twin():
    lines = [swept.Line(f"seed={i}", [1, 2], [4.0 + i, 5.0]) for i in range(12)]
    svg = swept.svg(lines, name="x", unit=UNIT)
    assert [f"seed={i}" for i in range(12)] == [
        text for text in texts(svg) if text.startswith("seed")
    ]
    assert all(color in svg for color in theme.COLORS)
    assert not any(color in theme.dark(svg) for color in theme.COLORS)


def test_points_that_share_no_setting_are_of_one_colour():
    lines = [swept.Line("", [value], [4.0]) for value in (1, 2, 3)]
    svg = swept.svg(lines, name="x", unit=UNIT)
    assert theme.BLUE in svg and not any(color in svg for color in theme.MEASURED)


def test_the_same_sweep_is_the_same_file():
    assert drawn([1, 2], [4.0, 5.0]) == drawn([1, 2], [4.0, 5.0])
