"""Array jobs on a real Slurm: stopped, requeued, preempted, cancelled, killed.

Most units run a stand-in for `runner`, in a second; the last tests the real one.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch import slurm
from tests.launch import slurm_cluster
from tests.launch.slurm_cluster import until
from tests.launch.stand_ins import ROOT, Sweep
from tests.runner.runs import Runner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing()),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


class Array:
    """The three units of a stand-in sweep, submitted as one array."""

    def __init__(self, cluster, folder, ends, **options):
        self.cluster, self.sweep = cluster, Sweep(folder)
        self.sweep.how(ends)
        processes = options.pop("processes", 1)
        script = folder / slurm.FILE
        spec = self.sweep.spec(processes=processes)
        script.write_text(slurm.render(spec, slurm.Options(**options)))
        self.job = cluster.submit(script)

    def task(self, index):
        return f"{self.job}_{index}"

    def state(self, index):
        return self.cluster.state(self.task(index))

    def started(self, *numbers):
        until(lambda: set(numbers) <= set(self.sweep.began))

    def finished(self, *indices):
        until(lambda: all(self.sweep.units[i].finished for i in indices))

    def ended(self):
        until(lambda: not self.cluster.run("squeue", "-h", "-j", self.job))

    def output(self, index):
        return (self.sweep.path / f"slurm-{self.task(index)}.txt").read_text()

    def reaches_its_limit(self, index):
        """What Slurm does two minutes before the time limit."""
        self.cluster.run("scancel", "--batch", "--signal=USR1", self.task(index))


@pytest.fixture
def array(cluster, tmp_path):
    arrays = []

    def submit(ends=(), **options):
        arrays.append(Array(cluster, tmp_path, dict(ends), **options))
        return arrays[-1]

    yield submit
    for one in arrays:
        cluster.run("scancel", one.job)
        one.ended()


def test_a_task_at_its_limit_saves_and_goes_back_alone(array, cluster):
    # The task that starts last has the number of the whole array.
    tasks = array({"00": "wait", "02": "wait"})
    tasks.started("00", "01", "02")
    tasks.reaches_its_limit(2)
    until(lambda: tasks.state(2) == "PENDING")
    assert "02 SIGTERM and saved" in tasks.sweep.log
    assert tasks.state(0) == "RUNNING"
    assert "BeginTime" in cluster.run("squeue", "-h", "-o", "%r", "-j", tasks.task(2))

    tasks.sweep.how({"00": "wait"})
    cluster.start_now(tasks.task(2))
    tasks.finished(1, 2)
    assert sorted(tasks.sweep.began) == ["00", "01", "02", "02"]
    assert "back into the queue" in tasks.output(2)


def test_the_time_limit_itself_does_the_same(array, cluster):
    tasks = array({"00": "wait"}, time="1", sbatch=("--signal=B:USR1@55",))
    tasks.started("00")
    until(lambda: tasks.state(0) == "PENDING")
    assert "00 SIGTERM and saved" in tasks.sweep.log
    tasks.sweep.how({})
    cluster.start_now(tasks.task(0))
    tasks.finished(0)


def test_a_cancelled_task_saves_and_does_not_come_back(array, cluster):
    tasks = array({"00": "wait"})
    tasks.started("00")
    cluster.run("scancel", tasks.task(0))
    until(lambda: "00 SIGTERM and saved" in tasks.sweep.log)
    until(lambda: "waiting for Slurm" in tasks.output(0))
    assert "No such process" not in tasks.output(0)
    tasks.ended()
    assert tasks.sweep.began.count("00") == 1


def test_a_preempted_task_saves_and_comes_back(array, cluster):
    tasks = array({"00": "wait"})
    tasks.started("00", "01", "02")
    tasks.finished(1, 2)
    first = cluster.run(
        *("sbatch", "--parsable", "--partition=high", "--exclusive", "--nodes=2"),
        *("--wrap=true", "--output=/dev/null"),
    )
    until(lambda: "00 SIGTERM and saved" in tasks.sweep.log)
    until(lambda: tasks.state(0) == "PENDING")
    until(lambda: not cluster.run("squeue", "-h", "-j", first))
    tasks.sweep.how({})
    cluster.start_now(tasks.task(0))
    tasks.finished(0)


def test_a_task_that_is_requeued_from_outside_runs_again(array, cluster):
    tasks = array({"01": "wait"})
    tasks.started("01")
    cluster.run("scontrol", "requeue", tasks.task(1))
    tasks.sweep.how({})
    cluster.start_now(tasks.task(1))
    tasks.finished(0, 1, 2)


def test_running_limits_how_many_run_at_once(array):
    tasks = array({"00": "wait", "01": "wait"}, running=1)
    tasks.started("00")
    assert (tasks.state(1), tasks.sweep.began) == ("PENDING", ["00"])


def test_a_mistake_is_not_tried_again(array):
    tasks = array({"00": 2, "01": "wait"})
    tasks.started("00")
    until(lambda: tasks.state(0) == "FAILED")
    assert tasks.state(1) == "RUNNING"


def test_a_controller_that_restarts_loses_no_task(array, cluster):
    tasks = array({"00": "wait"})
    tasks.started("00")
    cluster.stop_controller()
    cluster.start_controller()
    tasks.reaches_its_limit(0)
    until(lambda: "00 SIGTERM and saved" in tasks.sweep.log)


def test_a_task_whose_node_is_down_runs_again(array, cluster):
    tasks = array({"00": "wait"})
    tasks.started("00")
    tasks.finished(1, 2)
    node = cluster.run("squeue", "-h", "-o", "%N", "-j", tasks.task(0))
    cluster.lose_node(node)
    try:
        until(lambda: tasks.state(0) == "PENDING")
        tasks.sweep.how({})
        cluster.start_now(tasks.task(0))  # on the other node
        tasks.finished(0)
    finally:
        cluster.start_node(node)
        cluster.await_nodes()
    assert tasks.sweep.began.count("00") == 2


# What a process of a run does first.
JOINS = """
import sys
import jax
from runner import runtime
from runner.errors import UserError
from runner.machine import distributed
try:
    distributed.start(runtime.Runtime())
except UserError as error:
    sys.exit(print(error) or 2)
print(jax.process_index(), "of", jax.process_count())
"""


def joined(cluster, *options):
    """Exit code and output of two processes under srun."""
    command = ["srun", "--ntasks=2", *options, sys.executable, "-c", JOINS]
    done = subprocess.run(
        command, env=cluster.environment, text=True, capture_output=True, timeout=120
    )
    return done.returncode, sorted(done.stdout.strip().splitlines())


def test_processes_under_srun_join(cluster):
    assert joined(cluster, "--nodes=2") == (0, ["0 of 2", "1 of 2"])


def test_a_node_whose_name_does_not_resolve_is_named_at_once(cluster):
    node = cluster.nodes[1]
    code, lines = joined(cluster, f"--nodelist={node}", "--nodes=1")
    assert code == 2
    assert all(f"{node}, the host of the first process" in line for line in lines)


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
