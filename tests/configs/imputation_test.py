"""The config of series, run: the error of hidden numbers is its loss."""

import json

import pytest

from runner import main, report

COMMAND = [
    "runner",
    "--fdl_config=configs/series/imputation.py",
    "--fiddler=contrast",
    "--fiddler=missing(0.4, length=3)",
    "--fdl.student.model.dim=8",
    "--fdl.student.model.num_heads=2",
    "--fdl.student.model.num_layers=1",
    "--fdl.num_steps=2",
]


@pytest.mark.slow
def test_an_evaluation_of_series_measures_the_hidden_numbers(tmp_path):
    assert main.main([*COMMAND, f"--workdir={tmp_path}"]) == 0
    metrics = json.loads((tmp_path / "result.json").read_text())["evaluations"]
    held_out = metrics["held_out"]
    assert not {"accuracy", "perplexity", "calibration_error"} & held_out.keys()
    # One before two steps of training: about the mean of a normal's magnitude.
    assert 0.4 < held_out["loss"] < 1.2
    assert held_out["metrics/value_distance"] >= held_out["loss"] ** 2
    assert held_out["terms/align"] > 0.0
    table = report.table(tmp_path)
    assert "mean error" in table
    assert "line between two" in table
    assert "nats/moment" not in table
