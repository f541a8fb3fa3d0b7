"""A real sweep in processes of its own: killed, gone on with, one unit broken."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import sweeps
from tests.runner.runs import write_text

ROOT = Path(__file__).parents[3]


class Runner:
    """Commands on the tiny config, with one text and one cache."""

    def __init__(self, directory):
        self.directory = directory
        write_text(directory / "text.txt")

    def start(self, workdir, *flags):
        place = f"--workdir={self.directory / workdir}"
        with (self.directory / f"{workdir}.out").open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "runner.main", place, *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    def sweep(self, name):
        """The flags of a first start."""
        text = str(self.directory / "text.txt")
        return [
            f"--fdl_config={Path(__file__).parent / 'tiny_config.py'}",
            f"--fiddler=reads({text!r})",
            f"--sweep={name}",
            "--gin.loop.log_every=1",
            "--gin.loop.checkpoint_every=4",
            f"--gin.input.cache={self.directory / 'cache'}",
            f"--gin.compilation.cache={self.directory / 'compiled'}",
        ]

    def output(self, workdir):
        return (self.directory / f"{workdir}.out").read_text()

    def metrics(self, unit):
        rows = (unit.path / "metrics.jsonl").read_text().splitlines()
        return [
            {k: x for k, x in json.loads(row).items() if not k.startswith("speed/")}
            for row in rows
        ]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("sweeps"))


@pytest.mark.slow
def test_a_sweep_that_is_killed_ends_as_one_that_is_not(runner):
    whole = runner.start("whole", *runner.sweep("rates(1e-3, 1e-2)"))
    assert whole.wait(timeout=300) == 0, runner.output("whole")

    process = runner.start("killed", *runner.sweep("rates(1e-3, 1e-2)"))
    second = runner.directory / "killed" / "units" / "01-peak_value=0.01"
    while not (second / "metrics.jsonl").exists():
        assert process.poll() is None, runner.output("killed")
        time.sleep(0.01)
    process.kill()
    process.wait()
    first = second.parent / "00-peak_value=0.001"
    kept = (first / "result.json").stat().st_mtime_ns
    # Its caches stand beside it, which only a person may allow.
    going_on = runner.start("killed", "--trust")
    assert going_on.wait(timeout=300) == 0, runner.output("killed")

    assert (first / "result.json").stat().st_mtime_ns == kept
    assert "unit 1/2 peak_value=0.001: finished\n" in runner.output("killed")
    one, other = (sweeps.load(runner.directory / x) for x in ("whole", "killed"))
    for left, right in zip(one.units, other.units, strict=True):
        assert runner.metrics(left) == runner.metrics(right)
    tables = [(x.path / "sweep.md").read_text() for x in (one, other)]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_unit_that_breaks_is_named_and_the_others_finish(runner):
    process = runner.start("broken", *runner.sweep("broken"))
    assert process.wait(timeout=300) == 1
    output = runner.output("broken")
    assert "unit 2/3 fiddler=breaks: failed, exit code 2: runner: student: " in output
    assert output.endswith("runner: 1 of 3 units failed: 01-fiddler=breaks\n")
    units = sweeps.load(runner.directory / "broken").units
    assert [unit.finished for unit in units] == [True, False, True]
    # Quiet: neither samples nor the table of each run.
    assert "unigram" not in output and ">   02" in output
