"""Settings compared over seeds, and the tables of it."""

import csv
import io
import json

import numpy as np
import pytest

from runner.evidence import intervals, tables
from runner.evidence.comparison import compare

BASE = {0: 4.30, 1: 4.36, 2: 4.28, 3: 4.33, 4: 4.31}


def shifted(by, *, noise=0.0):
    draws = np.random.default_rng(1).normal(0.0, 1.0, 5)
    return {
        s: x + by + noise * d for (s, x), d in zip(BASE.items(), draws, strict=True)
    }


def rows(metric="held_out/loss", baseline="a", **values):
    return {row.setting: row for row in compare(metric, values, baseline).rows}


def test_differences_are_paired_by_seed():
    row = rows(a=BASE, b=shifted(-0.1, noise=0.01))["b"]
    other = shifted(-0.1, noise=0.01)
    paired = intervals.of([other[seed] - BASE[seed] for seed in BASE])
    assert row.difference == paired
    # Seeds differ by more than settings do: only pairs tell these two apart.
    assert row.difference.deviation < row.spread.deviation


def test_only_common_seeds_are_paired():
    some = {seed: BASE[seed] - 1.0 for seed in (1, 3)} | {9: 0.0}
    row = rows(a=BASE, b=some)["b"]
    assert (row.spread.count, row.difference.count) == (3, 2)
    assert row.difference.mean == pytest.approx(-1.0)
    assert rows(a=BASE, b={9: 1.0})["b"].difference is None


def test_the_best_is_certain_only_where_the_interval_excludes_zero():
    certain = rows(a=BASE, b=shifted(-0.1, noise=0.01))
    assert certain["b"].is_best and certain["b"].is_certain
    unsure = rows(a=BASE, b=shifted(-0.001, noise=0.05))
    best = min(unsure.values(), key=lambda row: row.spread.mean)
    assert best.is_best and not best.is_certain
    assert not any(row.is_certain for row in rows(a=BASE, b=dict(BASE)).values())


def test_a_baseline_that_is_best_is_compared_with_the_next():
    worse = rows(a=BASE, b=shifted(0.5), c=shifted(0.1, noise=0.01))
    assert worse["a"].is_certain and worse["a"].difference is None
    close = rows(a=BASE, b=shifted(0.5), c=shifted(0.02, noise=0.05))
    assert close["a"].is_best and not close["a"].is_certain


def test_more_accuracy_is_better_and_less_loss():
    more = shifted(0.5)
    for name in ("accuracy", "gap_closed", "agreement", "teacher/accuracy"):
        assert rows(metric=f"held_out/{name}", a=BASE, b=more)["b"].is_best
    assert rows(metric="held_out/bits_per_byte", a=BASE, b=more)["a"].is_best


def test_one_setting_alone_is_no_winner():
    assert not rows(a=BASE)["a"].is_best
    empty = rows(a=BASE, b={})["b"]
    assert empty.spread is None and empty.difference is None


COMPARED = [compare("held_out/loss", {"w=0.5_%": BASE, "b": shifted(-0.1)}, "w=0.5_%")]


def test_the_terminal_shows_means_intervals_and_a_star():
    lines = tables.text(COMPARED).splitlines()
    assert lines[0] == "  held_out/loss, baseline w=0.5_%"
    assert lines[2].split()[:4] == ["w=0.5_%", "5", "4.3160", "0.0305"]
    assert lines[3].split()[:5] == ["b", "*", "5", "4.2160", "0.0305"]
    assert lines[3].endswith("-0.1000  [-0.1000, -0.1000]")
    assert "bootstrap" in lines[-1]


def test_markdown_and_latex_escape_their_own_characters():
    assert "| b \\* |" in tables.markdown(COMPARED)
    latex = tables.latex(COMPARED)
    assert r"w=0.5\_\%" in latex and r"95 \% interval" in latex
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body} == {6}


def test_a_program_reads_full_numbers():
    records = list(csv.DictReader(io.StringIO(tables.to_csv(COMPARED))))
    spread = COMPARED[0].rows[0].spread
    assert float(records[0]["mean"]) == spread.mean
    assert (records[0]["difference_mean"], records[0]["certain"]) == ("", "False")
    assert records[1]["certain"] == "True"
    assert json.loads(json.dumps(tables.to_json(COMPARED)))[0]["low"] == spread.low
    assert tables.to_csv([]) == "" and tables.text([]) == ""


def test_a_single_setting_has_no_columns_of_a_baseline():
    alone = [compare("held_out/loss", {"all": BASE}, "all")]
    title, heads, row, _, note = tables.text(alone).splitlines()
    assert title == "  held_out/loss" and note.startswith("  sd over seeds")
    assert heads.split() == ["setting", "seeds", "mean", "sd", "95", "%", "interval"]
    assert row.split()[:2] == ["all", "5"]
    assert "{lrrrr}" in tables.latex(alone) and "{lrrrrrr}" in tables.latex(COMPARED)
    assert "baseline" not in tables.markdown(alone) + tables.latex(alone)


def test_large_numbers_have_five_digits():
    large = {seed: 40 * value for seed, value in BASE.items()}
    lines = tables.text([compare("held_out/perplexity", {"a": large}, "a")])
    row = lines.splitlines()[2].split()
    assert row[:4] == ["a", "5", "172.64", "1.2198"]
    assert [len(x) for x in row[4:]] == [len("[171.36,"), len("174.16]")]
