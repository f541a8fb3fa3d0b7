"""A run ends with SIGTERM when its launcher does, however many shells stand between."""

import subprocess
import sys

import pytest

from launch import leash
from tests.launch.stand_ins import wait

# Says when it is ready, and writes down the signal it gets.
_RUN = """
import pathlib, signal, sys, time
log = pathlib.Path(sys.argv[1])
def stop(number, _):
    log.write_text(signal.Signals(number).name)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
log.write_text("ready")
time.sleep(float(sys.argv[2]))
log.write_text("at its end")
"""
_LAUNCHER = """
import shlex, subprocess, sys
from launch import leash
command = leash.leashed([sys.executable, "-c", sys.argv[1], *sys.argv[3:]])
if sys.argv[2] == "shell":
    command = ["sh", "-c", shlex.join(command) + "; true"]
subprocess.run(command, start_new_session=True)
"""


def launcher(log, between, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, _RUN, between, str(log), str(seconds)]
    )


@pytest.mark.parametrize("between", ["nothing", "shell"])
def test_a_run_is_told_when_its_launcher_is_killed(tmp_path, between):
    log = tmp_path / "log"
    process = launcher(log, between, 60)
    wait(lambda: log.exists() and log.read_text() == "ready")
    process.kill()
    process.wait()
    wait(lambda: log.read_text() == "SIGTERM")


@pytest.mark.parametrize("between", ["nothing", "shell"])
def test_a_run_that_ends_by_itself_leaves_nothing_behind(tmp_path, between):
    log = tmp_path / "log"
    assert launcher(log, between, 0).wait(timeout=60) == 0
    assert log.read_text() == "at its end"

    def watched():
        listed = subprocess.check_output(["ps", "-eo", "args"], text=True)
        return [line for line in listed.splitlines() if str(log) in line]

    wait(lambda: not watched())


def test_no_run_begins_when_its_launcher_has_ended(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = subprocess.run(
        [sys.executable, leash.__file__, str(gone.pid), "/bin/echo", "began"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "the launcher ended before its run began\n"
