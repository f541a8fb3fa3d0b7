"""The notebook of the docs runs, cell by cell, and was saved with what it showed."""

import ast
import base64
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from runner.notebook import figures

NOTEBOOK = Path(__file__).parents[3] / "docs" / "notebook.ipynb"
PNG = b"\x89PNG"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_was_executed_from_top_to_bottom_and_is_small():
    counts = [cell["execution_count"] for cell in code_cells()]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells() for output in cell["outputs"]]
    assert not [x for x in outputs if x["output_type"] == "error"]
    pictures = [
        x["data"]["image/png"] for x in outputs if "image/png" in x.get("data", {})
    ]
    assert len(pictures) == 3
    assert all(base64.b64decode(picture).startswith(PNG) for picture in pictures)
    assert NOTEBOOK.stat().st_size < 200_000


def test_a_picture_shows_itself():
    steps = np.arange(3)
    assert figures.over_steps({"a": (steps, steps)})._repr_png_().startswith(PNG)


def execute(source, names):
    """Run a cell; return the value of its last expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
    if last is not None:
        return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return None


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names = {}
    for cell in code_cells():
        value = execute("".join(cell["source"]), names)
        shown = [x for x in cell["outputs"] if x["output_type"] == "execute_result"]
        assert (value is not None) == bool(shown)
        if shown and "image/png" in shown[0]["data"]:
            assert isinstance(value, Figure)
        printed = [x for x in cell["outputs"] if x["output_type"] == "stream"]
        assert bool(capsys.readouterr().out) == bool(printed)
    assert names["after"]["loss"] < names["before"] - 1.0
    assert list((tmp_path / "by_hand" / "checkpoints").iterdir())
