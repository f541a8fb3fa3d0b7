"""Whole runs in processes of their own: killed, stopped, damaged, continued."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from runner.checkpoint import choice, manifest
from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.runs import ROOT, STEPS, Runner
from tests.runner.states import flip_a_bit


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(runner):
    """The work directory of a run that nothing interrupted."""
    runner.run("whole")
    return "whole"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a few steps to its end: what reads it does not mind how long it was."""
    short = Runner(tmp_path_factory.mktemp("finished"), steps=4)
    short.run("whole")
    return short


@pytest.mark.slow
def test_two_kills_and_a_damaged_checkpoint_change_nothing(runner, whole):
    runner.killed("twice", step=2)  # before the first checkpoint
    runner.killed("twice", step=22)
    newest = sorted(runner.checkpoints("twice").glob(f"0*/{manifest.NAME}"))[-1].parent
    flip_a_bit(newest)
    output = runner.run("twice")
    assert f"checkpoint {int(newest.name)} passed over" in output
    assert "altered: its sha256 does not agree" in output
    runner.assert_same_run("twice", whole)


@pytest.mark.slow
def test_ten_kills_change_nothing(runner, whole):
    choose = random.Random(10)
    for _ in range(3):  # while it starts: imports, data, compilation
        runner.killed("ten", step=-1, seconds=choose.uniform(0.5, 5.0))
    for step in sorted(choose.sample(range(STEPS), k=7)):
        runner.killed("ten", step=step, seconds=choose.uniform(0.0, 0.05))
    runner.run("ten")
    runner.assert_same_run("ten", whole)


@pytest.mark.slow
def test_a_kill_leaves_the_rows_that_the_student_writes_as_they_are(runner):
    short = Runner(runner.directory, steps=20)
    short.run("own", "--fiddler=writes()")
    assert short.killed("own-killed", "--fiddler=writes()", step=9) < 20
    short.run("own-killed", "--fiddler=writes()")
    short.assert_same_run("own-killed", "own")
    lines = short.metrics("own")
    shares = [x["rollouts/share"] for x in lines if "rollouts/share" in x]
    assert shares[0] < 0.2 < max(shares)


@pytest.mark.slow
def test_lines_between_checkpoints_are_means_over_the_steps_before_the_kill_too(runner):
    sparse = "--gin.loop.log_every=7"
    runner.run("sparse", sparse)
    runner.killed("sparse-killed", sparse, step=21, seconds=0.05)
    runner.run("sparse-killed", sparse)
    runner.assert_same_run("sparse-killed", "sparse")


@pytest.mark.slow
def test_a_kill_changes_neither_the_best_checkpoint_nor_the_early_end(runner):
    early = Runner(runner.directory)  # of the same text and compiled programs
    early.steps = 30  # where it ends, for calibration is best after step 18
    early.run("best", "--fiddler=keeps_best()")
    assert early.killed("best-killed", "--fiddler=keeps_best()", step=22) < 30
    output = early.run("best-killed", "--fiddler=keeps_best()")
    assert "was not better in 2 measurements; the best is" in output
    early.assert_same_run("best-killed", "best")
    for workdir in ("best", "best-killed"):
        path = early.directory / workdir
        assert choice.best_step(path) == 18
        result = json.loads((path / "result.json").read_text())
        assert (result["step"], result["best"]["step"]) == (30, 18)
        names = {int(name.name) for name in early.checkpoints(workdir).iterdir()}
        assert names == {18, 28, 30}
    before = early.metrics("best")
    early.run("best", "--fiddler=keeps_best()")  # it has ended
    assert early.metrics("best") == before


# The runner, sent SIGTERM as it reads the metrics of step 7: step 8 is under way then.
ASKED_IN_STEP_8 = """
import os, signal, sys
from runner import main
from runner.train import hooks
observe = hooks.Hooks.observe
def observe_and_ask(self, step, *rest):
    observe(self, step, *rest)
    if step == 7:
        os.kill(os.getpid(), signal.SIGTERM)
hooks.Hooks.observe = observe_and_ask
main.run()
"""


@pytest.mark.slow
def test_a_signal_saves_within_one_step_and_the_run_goes_on(runner, whole):
    output = runner.run("asked", program=("-c", ASKED_IN_STEP_8))
    assert f"stopped after step 8 of {STEPS}" in output
    assert f"runner --workdir={runner.directory / 'asked'}" in output
    with Checkpoints(runner.checkpoints("asked"), keep=1) as checkpoints:
        assert checkpoints.latest_verified() == 8
    runner.run("asked")
    runner.assert_same_run("asked", whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_time_is_a_clean_exit(runner, whole, number):
    workdir = f"asked-{number.name}"
    process = runner.start(workdir)
    while runner.last_step(workdir) < 11:
        time.sleep(0.002)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 0), output
    assert "Traceback" not in output
    with Checkpoints(runner.checkpoints(workdir), keep=1) as checkpoints:
        assert checkpoints.latest_verified() == runner.last_step(workdir)
    runner.run(workdir)
    runner.assert_same_run(workdir, whole)


@pytest.mark.slow  # `tests/compatibility/runs_test.py` reads a finished run
def test_a_finished_run_is_read_again_and_left_alone(finished):
    before = finished.state("whole"), finished.metrics("whole")
    process = subprocess.run(
        [
            *(sys.executable, "-m", "runner.main"),
            f"--workdir={finished.directory / 'whole'}",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stderr
    after = finished.state("whole"), finished.metrics("whole")
    np.testing.assert_equal(after, before)


@pytest.mark.slow  # `tests/runner/workdir/workdir_test.py` compares graphs
def test_another_graph_is_shown_and_refused(finished):
    before = finished.metrics("whole")
    output = finished.run("whole", "--fdl.seed=1", code=2)
    assert "- seed: 0\n+ seed: 1\n" in output
    output = finished.run("whole", "--fdl.num_steps=8", code=2)
    assert "- num_steps: 4\n+ num_steps: 8\n" in output
    assert finished.metrics("whole") == before


@pytest.mark.slow  # `workdir/lock_test.py` holds the lock
def test_a_second_runner_is_refused_while_the_first_lives(runner):
    first = runner.start("shared", "--fdl.num_steps=100000")
    try:
        while not (runner.directory / "shared" / "config.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        output = runner.run("shared", "--fdl.num_steps=100000", code=2)
        assert f"in use by process {first.pid} on" in output
    finally:
        first.kill()
        first.communicate()


EIGHT = ("--gin.mesh.num_cpu_devices=8",)
GRID = (*EIGHT, "--gin.mesh.data=4", "--gin.mesh.fsdp=2")
CUT_UP = ("--gin.step.microbatches=2", "--gin.head.memory_budget=100_000")


def assert_ten_steps_agree(ours, theirs, *, after):
    """The losses of the ten steps after one, to 1e-6."""
    pairs = [
        (one, other)
        for one, other in zip(ours, theirs, strict=True)
        if after < one["step"] <= after + 10
    ]
    assert len({one["step"] for one, _ in pairs}) == 10
    for one, other in pairs:
        assert one["step"] == other["step"]
        for name in one.keys() & other.keys():
            if name.startswith(("learning/", "held_out/loss")):
                # Absolute for the divergence from the student's own average, near 0.
                np.testing.assert_allclose(
                    one[name], other[name], rtol=1e-6, atol=1e-6, err_msg=name
                )


@pytest.mark.slow
@pytest.mark.parametrize("flags", [CUT_UP, EIGHT, GRID])
def test_another_gin_file_goes_on_with_the_same_batches(runner, whole, flags):
    workdir = f"moved-{len(flags)}-{flags[0][6:10]}"
    # Late: a token on the edge of two experts may go the other way by rounding alone,
    # and what the two then learn moves apart.
    began = runner.killed(workdir, step=40)
    runner.run(workdir, *flags)
    ours, theirs = runner.metrics(workdir), runner.metrics(whole)
    assert_ten_steps_agree(ours, theirs, after=began)
    ours, theirs = runner.state(workdir), runner.state(whole)
    for path in theirs:
        if path.startswith("params"):
            np.testing.assert_allclose(ours[path], theirs[path], atol=1e-4)


@pytest.mark.slow
def test_a_run_moves_on_from_eight_devices_to_a_grid(runner):
    runner.killed("eight", step=8)
    shutil.copytree(runner.directory / "eight", runner.directory / "grid")
    runner.run("eight", *EIGHT)
    began = runner.killed("grid", *EIGHT, step=20)
    runner.run("grid", *GRID)
    ours, theirs = runner.metrics("grid"), runner.metrics("eight")
    assert_ten_steps_agree(ours, theirs, after=began)
