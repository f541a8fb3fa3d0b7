"""The table, for a terminal, a page and a program; and the picture beside it."""

import json
import math

import pytest

from runner import sweeps
from runner.sweeps import points
from tests.runner.report.pages import Page
from tests.runner.sweeps.sweeps import RATE, Z_LOSS, made

FAILED = "failed, exit code 1: runner: step 3: learning/ce is nan"


def grid(directory):
    """Two learning rates by two weights, one of which diverged at the larger."""
    pairs = points.product(
        points.values(RATE, 1e-3, 1e-2), points.values(Z_LOSS, 0.0, 1e-4)
    )
    ends = [5.0, 4.75, FAILED, 4.25]
    return made(directory, list(zip(pairs, ends, strict=True)))


def summary(frozen, capsys):
    sweeps.summarize(frozen)
    return capsys.readouterr().out


def test_the_table_has_a_row_a_unit_and_the_sensitivity_below(tmp_path, capsys):
    assert summary(grid(tmp_path), capsys).splitlines() == [
        "",
        "  unit  peak_value  z_loss.weight  nats/token  state",
        "    00       0.001            0.0       5.000  finished",
        "    01       0.001         0.0001       4.750  finished",
        "    02        0.01            0.0           –  failed, exit code 1",
        ">   03        0.01         0.0001       4.250  finished",
        "",
        "  learning-rate sensitivity, nats/token (arXiv:2309.14322)",
        "    z_loss.weight=0.0     1.500",
        "    z_loss.weight=0.0001  0.250",
        "    02 counts with the loss at initialisation",
        "",
        f"  02: {FAILED}",
        "",
        f"  report:   {tmp_path / 'report.html'}",
    ]


def test_a_program_reads_the_same(tmp_path, capsys):
    summary(grid(tmp_path), capsys)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["best"] == "03-peak_value=0.01-z_loss.weight=0.0001"
    assert found["learning_rate"] == RATE
    assert found["sensitivity"] == {
        "z_loss.weight=0.0": 1.5,
        "z_loss.weight=0.0001": 0.25,
    }
    assert found["units"][0] == {
        "name": "00-peak_value=0.001-z_loss.weight=0.0",
        "point": {RATE: 0.001, Z_LOSS: 0.0},
        "state": "finished",
        "losses": {"held_out": 5.0},
        "untrained": {"held_out": 8.0},
    }
    assert (found["units"][2]["state"], found["units"][2]["losses"]) == (FAILED, {})


def test_the_markdown_table_is_one(tmp_path, capsys):
    summary(grid(tmp_path), capsys)
    lines = (tmp_path / "sweep.md").read_text().splitlines()
    assert lines[0] == "# Sweep lr"
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0] == "| unit | peak_value | z_loss.weight | nats/token | state |"
    assert rows[5] == "| **03** | **0.01** | **0.0001** | **4.250** | **finished** |"
    assert rows[8] == "| z_loss.weight=0.0 | 1.500 |"
    assert {row.count("|") for row in rows[:6]} == {6}


def test_the_page_holds_table_picture_and_links_to_the_runs(tmp_path, capsys):
    frozen = grid(tmp_path)
    (frozen.units[0].path / "report.html").write_text("")
    summary(frozen, capsys)
    page = Page((tmp_path / "report.html").read_text())
    for text in ("Sweep lr", "3 of 4 units finished", "1 failed", "4.250", "1.500"):
        assert text in page.text, text
    assert set(page.linked) == {
        "units/00-peak_value=0.001-z_loss.weight=0.0/report.html",
        "./sweep.svg",
        "./sweep-dark.svg",
    }
    svg = (tmp_path / "sweep.svg").read_text()
    for text in ("z_loss.weight=0.0001", "sensitivity 0.250", "peak_value", "× failed"):
        assert text in svg, text


def test_several_evaluations_have_a_column_each_and_the_first_decides(tmp_path, capsys):
    ends = [{"held_out": 4.0, "other": 3.0}, {"held_out": 5.0, "other": 2.0}]
    ended = [({RATE: rate}, end) for rate, end in zip((1.0, 2.0), ends, strict=True)]
    frozen = made(tmp_path, ended, names={RATE: "peak_value"})
    said = summary(frozen, capsys)
    assert "peak_value  held_out nats/token  other nats/token  state" in said
    assert ">   00         1.0                4.000             3.000  finished" in said


def test_a_sweep_under_way_has_a_table_too(tmp_path, capsys):
    ended = [({RATE: 1.0}, ...), ({RATE: 2.0}, None)]
    said = summary(made(tmp_path, ended, names={RATE: "peak_value"}), capsys)
    assert "00         1.0           –  at step 2 of 9\n" in said
    assert "01         2.0           –  not begun\n" in said
    assert "sensitivity" not in said and ">" not in said
    assert not (tmp_path / "sweep.svg").exists()


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path, capsys):
    ended = [({RATE: 1.0}, math.nan), ({RATE: 2.0}, 5.0)]
    said = summary(made(tmp_path, ended, names={RATE: "peak_value"}), capsys)
    assert ">   01" in said and "00         1.0           –  finished" in said
    assert json.loads((tmp_path / "results.json").read_text())["units"][0][
        "losses"
    ] == {"held_out": None}


def test_random_points_are_drawn_against_each_of_their_flags(tmp_path, capsys):
    drawn = sweeps.random_points(
        {RATE: sweeps.log_uniform(1e-4, 1e-1), Z_LOSS: sweeps.uniform(0, 1)}, num=4
    )
    said = summary(made(tmp_path, [(point, 4.0) for point in drawn]), capsys)
    assert "sensitivity" not in said
    for file, name in (("sweep.svg", "peak_value"), ("sweep-1.svg", "z_loss.weight")):
        assert name in (tmp_path / file).read_text()


@pytest.mark.parametrize("end", [4.0, FAILED, None])
def test_one_run_alone_is_a_table_of_one(tmp_path, capsys, end):
    said = summary(made(tmp_path, [({}, end)], names={}), capsys)
    assert said.splitlines()[1] == "  unit  nats/token  state"


def test_points_of_other_flags_leave_cells_empty(tmp_path, capsys):
    ended = [({RATE: 1.0}, 4.0), ({"fiddler": "wide(2)"}, 3.0)]
    names = {RATE: "peak_value", "fiddler": "fiddler"}
    said = summary(made(tmp_path, ended, names=names), capsys)
    assert "    00         1.0        –       4.000  finished" in said
    assert ">   01           –  wide(2)       3.000  finished" in said


def test_nothing_of_a_flag_becomes_markup(tmp_path, capsys):
    ended = [({"fiddler": "f('<script>')"}, 4.0)]
    summary(made(tmp_path, ended, names={"fiddler": "fiddler"}), capsys)
    for file in ("report.html", "sweep.svg"):
        assert "<script" not in (tmp_path / file).read_text()
