"""Whole runs of the real `runner` on a real Slurm, a process on each of two nodes."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.launch import paced_config, slurm_cluster
from tests.launch.slurm_cluster import until
from tests.launch.stand_ins import ROOT
from tests.runner.runs import Runner

pytestmark = pytest.mark.slow


class SlurmRunner(Runner):
    """Two processes of the real `runner`, a task on each node; one where it is told."""

    cluster: slurm_cluster.Cluster
    patience = 900.0

    def start_tasks(self, workdir):
        return subprocess.Popen(
            [
                *("srun", "--ntasks=2", "--nodes=2", "--label"),
                *(sys.executable, "-m", "runner.main", *self.flags),
                f"--workdir={self.directory / workdir}",
            ],
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )


@pytest.fixture(scope="module")
def real(cluster, tmp_path_factory):
    runner = SlurmRunner(tmp_path_factory.mktemp("real"), steps=12)
    runner.cluster = cluster
    config = f"--fdl_config={ROOT / 'tests/runner/sweeps/tiny_config.py'}"
    runner.flags[0] = config
    return runner


def test_two_tasks_give_the_total_of_one_and_one_killed_ends_both(real):
    real.run("one")
    both = real.start_tasks("both")
    output = both.communicate(timeout=real.patience)[0]
    assert both.returncode == 0, output
    ours, theirs = real.metrics("both"), real.metrics("one")
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    totals = [
        [line["learning/total"] for line in lines if "learning/total" in line]
        for lines in (ours, theirs)
    ]
    assert len(totals[0]) == real.steps
    np.testing.assert_allclose(*totals, rtol=2e-6)

    # One of two is killed; both are started again.
    killed = real.start_tasks("killed")
    until(lambda: real.last_step("killed") >= 1 or killed.poll() is not None)
    os.kill(task_of(1, str(real.directory / "killed")), signal.SIGKILL)
    output = killed.communicate(timeout=real.patience)[0]
    assert killed.returncode != 0
    told = [line for line in output.splitlines() if line.startswith("0: ")]
    assert any("this run has ended" in line for line in told) or (
        "indicates that another task died" in output
    ), output
    again = real.start_tasks("killed")
    output = again.communicate(timeout=real.patience)[0]
    assert again.returncode == 0, output
    real.assert_same_run("killed", "both")


def task_of(rank, workdir):
    """The number of the process that Slurm started as task `rank` of a run."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            of_run = f"--workdir={workdir}" in (path / "cmdline").read_text(
                errors="replace"
            )
            environment = (path / "environ").read_text(errors="replace").split("\0")
            is_srun = (path / "comm").read_text().strip() == "srun"
            if of_run and not is_srun and f"SLURM_PROCID={rank}" in environment:
                return int(path.name)
    raise AssertionError(f"no task {rank} of {workdir}")


def test_an_array_of_pairs_at_its_limit_saves_goes_back_and_goes_on(cluster, tmp_path):
    runner = SlurmRunner(tmp_path)
    slow = tmp_path / "slow"
    slow.touch()
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "launch", "slurm", "--processes=2", "--"),
            f"--fdl_config={ROOT / 'tests/launch/paced_config.py'}",
            f"--fiddler=paced({str(tmp_path / 'text.txt')!r}, {str(slow)!r})",
            *("--sweep=rates", f"--workdir={tmp_path / 'sweep'}"),
            *(flag for flag in runner.flags[3:] if "every" not in flag),
            *("--gin.loop.log_every=1", "--gin.loop.evaluate_every=0"),
            "--gin.loop.checkpoint_every=0",
        ],
        env=cluster.environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert launched.returncode == 0, launched.stderr
    job = launched.stdout.split()[-1]
    tasks = [f"{job}_{index}" for index in range(2)]
    units = sorted(
        path.relative_to(tmp_path) for path in tmp_path.glob("sweep/units/*")
    )
    assert len(units) == 2

    # Both tasks train; what Slurm does two minutes before the time limit.
    until(lambda: all(runner.last_step(unit) >= 2 for unit in units))
    for task in tasks:
        cluster.run("scancel", "--batch", "--signal=USR1", task)
    until(lambda: all(cluster.state(task) == "PENDING" for task in tasks))
    steps = [runner.last_step(unit) for unit in units]
    for unit, step in zip(units, steps, strict=True):
        [checkpoint] = runner.checkpoints(unit).iterdir()  # that of the step at hand
        assert int(checkpoint.name) == step

    # Each goes on from it, to the end.
    slow.unlink()
    for task in tasks:
        cluster.start_now(task)
    until(lambda: all((tmp_path / unit / "result.json").exists() for unit in units))
    for task, unit, step in zip(tasks, units, steps, strict=True):
        output = (tmp_path / "sweep" / f"slurm-{task}.txt").read_text()
        assert f"continuing after step {step}\n" in output
        numbers = [line["step"] for line in runner.metrics(unit) if line["step"]]
        assert sorted({*numbers}) == [*range(1, paced_config.STEPS + 1)]
