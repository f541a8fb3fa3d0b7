"""Array jobs on a real Slurm: stopped, requeued, preempted, cancelled, killed.

Units run a stand-in for `runner`, in a second.
"""

import subprocess
import sys

import pytest

from launch import slurm
from tests.launch.slurm_cluster import until
from tests.launch.stand_ins import Sweep

pytestmark = pytest.mark.slow


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


PAIRS = ("00", "00.1", "01", "01.1", "02", "02.1")


def test_tasks_of_two_processes_all_save_at_their_limit_and_come_back(array, cluster):
    tasks = array(
        dict.fromkeys(PAIRS, "wait"),
        processes=2,
        time="1",
        sbatch=("--signal=B:USR1@55",),
    )
    tasks.started(*PAIRS)
    until(lambda: all(tasks.state(index) == "PENDING" for index in range(3)))
    assert {f"{one} SIGTERM and saved" for one in PAIRS} <= {*tasks.sweep.log}
    tasks.sweep.how({})
    for index in range(3):
        cluster.start_now(tasks.task(index))
    tasks.finished(0, 1, 2)
    assert sorted(tasks.sweep.began) == sorted(2 * PAIRS)


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
    # The end of a run is a collective, of which gloo says that it connects.
    lines = done.stdout.strip().splitlines()
    return done.returncode, sorted(x for x in lines if not x.startswith("[Gloo]"))


def test_processes_under_srun_join(cluster):
    assert joined(cluster, "--nodes=2") == (0, ["0 of 2", "1 of 2"])


def test_a_node_whose_name_does_not_resolve_is_named_at_once(cluster):
    node = cluster.nodes[1]
    code, lines = joined(cluster, f"--nodelist={node}", "--nodes=1")
    assert code == 2
    assert all(f"{node}, the host of the first process" in line for line in lines)
