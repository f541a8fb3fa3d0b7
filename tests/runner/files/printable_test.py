"""Control characters of files are written out before a terminal can obey them."""

import io
import json

import pytest

from runner.files.printable import printable
from runner.report import comparison, results, run
from runner.writers.terminal import Terminal

CLEARS = "he\x1b[2Jld\x07"
WRITTEN = r"he\x1b[2Jld\x07"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (CLEARS, WRITTEN),
        ("\x9b2J \r \x00 \x7f", r"\x9b2J \r \x00 \x7f"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("two\nlines\tand \x1b[36mcolor\x1b[0m, ━ é", None),
    ],
)
def test_all_but_colors_and_lines_is_written_out(text, written):
    assert printable(text) == (text if written is None else written)


def test_a_line_above_the_progress_line_controls_nothing():
    stream = io.StringIO()
    Terminal(stream).print(f"step 3  {CLEARS}: loss 2.0")
    assert stream.getvalue() == f"step 3  {WRITTEN}: loss 2.0\n"


def test_a_result_of_a_stranger_controls_nothing(tmp_path):
    (tmp_path / "config.txt").write_text("num_steps: 3\n")
    evaluations = {"evaluations": {CLEARS: {"loss": 2.0}}}
    (tmp_path / "result.json").write_text(json.dumps(evaluations))
    loaded = run.load(tmp_path)
    assert WRITTEN in results.text(results.rows(loaded))
    entries = comparison.entries([f"{CLEARS}={tmp_path}"] * 2)
    assert WRITTEN in comparison.text(entries)
