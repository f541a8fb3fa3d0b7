"""Hangs that are told: where, with the stacks of all threads, and by which code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import runtime
from runner.machine import watchdog
from runner.machine.watchdog import Watchdog
from tests.runner.machine.pairs import Pair
from tests.runner.runs import Runner

ROOT = Path(__file__).parents[3]
ENDS = "--gin.watchdog.end=True"

# The runner, in which one call never comes back once the run is at a step.
HANGS = """
import time
from runner import main
from {module} import {name}
real, calls = {name}.{function}, []
def hang(*args, **kwargs):
    calls.append(1)
    if len(calls) > {after}:
        {by}
    return real(*args, **kwargs)
{name}.{function} = hang
main.run()
"""


def settings(**changes):
    return runtime.Watchdog(**{"seconds": 1, **changes})


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_hang_is_reported_once_and_its_end_too(tmp_path, capfd):
    report = tmp_path / "hang.txt"
    with Watchdog(settings(), tmp_path) as dog:
        until(report.exists)
        time.sleep(1.5)
        dog.beat()
    text = report.read_text()
    assert text.count("watchdog: no step has ended for 1 s") == 1
    assert "place: elsewhere" in text and "thread MainThread:" in text
    assert "test_a_hang_is_reported_once" in text
    error = capfd.readouterr().err
    assert text.strip() in error and "a step has ended after" in error


def test_steps_that_end_in_time_are_no_hang(tmp_path):
    with Watchdog(settings(), tmp_path) as dog:
        for _ in range(15):
            time.sleep(0.1)
            dog.beat()
    assert not (tmp_path / "hang.txt").exists()


def test_at_zero_there_is_no_thread(tmp_path):
    with Watchdog(settings(seconds=0), tmp_path) as dog:
        assert not dog._thread.is_alive()


def test_a_work_directory_that_cannot_be_written_does_not_keep_it(tmp_path, capfd):
    os.mkfifo(tmp_path / "hang.txt")
    with Watchdog(settings(), tmp_path) as dog:
        until(lambda: dog._reported)
        time.sleep(0.5)
    assert "hang.txt cannot be written" in capfd.readouterr().err


def test_the_process_ends_with_a_code_of_its_own(tmp_path):
    program = (
        "import pathlib, sys, time\n"
        "from runner import runtime\n"
        "from runner.machine.watchdog import Watchdog\n"
        "settings = runtime.Watchdog(seconds=1, end=True)\n"
        "with Watchdog(settings, pathlib.Path(sys.argv[1])):\n"
        "    time.sleep(60)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, timeout=60, check=False
    )
    assert ended.returncode == watchdog.HUNG
    assert "time.sleep(60)" in (tmp_path / "hang.txt").read_text() or (
        "<string>" in (tmp_path / "hang.txt").read_text()
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A runner whose programs are in its cache: what is slow now hangs."""
    runner = Runner(tmp_path_factory.mktemp("hangs"))
    runner.killed("compiled", step=4)
    return runner


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "hang"),
    [
        (
            "data read",
            {
                "module": "runner.data",
                "name": "pipeline",
                "function": "_read",
                "after": 12,
                "by": "time.sleep(600)",
            },
        ),
        (  # A save that opens what nobody reads, as a stuck file system would have it.
            "checkpoint",
            {
                "module": "runner.checkpoint",
                "name": "manifest",
                "function": "seal",
                "after": 0,
                "by": "import os; p = args[0] / 'stuck'; os.mkfifo(p); open(p)",
            },
        ),
    ],
    ids=["read", "save"],
)
def test_a_run_that_hangs_says_where_and_ends(compiled, place, hang):
    name = hang["function"]
    program = ("-c", HANGS.format(**hang))
    process = compiled.start(name, "--gin.watchdog.seconds=30", ENDS, program=program)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == watchdog.HUNG, output
    assert f"place: {place}; ends with 4" in output
    assert f"place: {place}" in (compiled.directory / name / "hang.txt").read_text()


@pytest.mark.slow
def test_a_collective_whose_peer_has_stopped_is_told(tmp_path):
    pair = Pair(tmp_path)
    heartbeat = "--gin.distributed.heartbeat_seconds=600"
    processes = pair.start_all("stopped", "--gin.watchdog.seconds=120", ENDS, heartbeat)
    pair.until("stopped", 5, processes)
    processes[1].send_signal(signal.SIGSTOP)
    try:
        output, _ = processes[0].communicate(timeout=300)
        assert processes[0].returncode == watchdog.HUNG, output
        assert "place: collective; ends with 4" in output
    finally:
        processes[1].kill()
        processes[1].communicate()
