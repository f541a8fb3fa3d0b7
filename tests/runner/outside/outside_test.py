"""A package outside of the clone: trains, is killed, goes on, and sweeps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.report import run
from tests.runner.runs import ROOT, RUNTIME, Runner

HERE = Path(__file__).parent
LAST = 24  # of the hook's eight calls, one every three steps


class Outside(Runner):
    """Runs of the package, which Python finds by PYTHONPATH at the start alone."""

    def __init__(self, directory):
        self.directory, self.steps = directory, LAST
        (directory / "installed").mkdir()
        (directory / "work").mkdir()
        shutil.copy(HERE / "ownlab.py", directory / "installed")
        for name in ("own_config.py", "ownhook.py"):
            shutil.copy(HERE / name, directory / "work")
        self.runtime = [
            *RUNTIME,
            f"--gin.input.cache={directory / 'cache'}",
            f"--gin.compilation.cache={directory / 'compiled'}",
        ]
        config = directory / "work" / "own_config.py"
        self.flags = [f"--fdl_config={config}", *self.runtime]

    def go_on(self, workdir):
        """What `runner --workdir=DIR` prints, without PYTHONPATH."""
        arguments = [f"--workdir={self.directory / workdir}", *self.runtime]
        return subprocess.run(
            [sys.executable, "-m", "runner.main", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        ).stdout


@pytest.fixture
def outside(tmp_path, monkeypatch):
    place = Outside(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path / 'installed'}")
    return place


@pytest.mark.slow
def test_a_package_outside_of_the_clone_trains_is_killed_and_goes_on(outside):
    output = outside.run("whole")
    reason = f"Enough ends the run after step {LAST}: 8 calls were made"
    assert reason in output
    assert 0 < outside.killed("killed", step=10) < LAST
    output = outside.go_on("killed")
    assert "continuing after step" in output and reason in output
    outside.assert_same_run("killed", "whole")
    rows = [row for row in outside.metrics("whole") if "own/norm" in row]
    assert [row["step"] for row in rows] == list(range(3, LAST + 1, 3))
    assert rows[-1]["own/loss"] < rows[0]["own/loss"]
    measured = [
        row["held_out/metrics/certainty"]
        for row in outside.metrics("killed")
        if "held_out/metrics/certainty" in row
    ]
    assert len(measured) > 1 and 0 < measured[0] < measured[-1] < 1
    written = [(outside.directory / name / "own.txt") for name in ("whole", "killed")]
    assert len(written[0].read_text().splitlines()) == LAST
    assert written[0].read_text() == written[1].read_text()


@pytest.mark.slow
def test_a_package_outside_of_the_clone_is_swept_by_a_flag(outside):
    kinds = "'ownlab.Focal()', 'ownlab.Focal(gamma=0.5)'"
    output = outside.run(
        "swept",
        f"--sweep=values('fdl.losses.focal.loss', {kinds})",
        "--fdl.num_steps=2",
    )
    assert "Focal" in output
    units = json.loads((outside.directory / "swept" / "results.json").read_text())
    assert len(units["units"]) == 2
    for unit in (outside.directory / "swept" / "units").iterdir():
        assert run.load(unit).last_step == 2
