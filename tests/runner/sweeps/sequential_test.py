"""One unit after another: skipped, failed, stopped, killed; and gone on with.

Units here are a stand-in for `runner` that ends as a test wants it, in milliseconds;
`resume_test.py` has the real one.
"""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import main, sweeps
from runner.sweeps import frozen as frozen_lib
from runner.sweeps import sequential

ROOT = Path(__file__).parents[3]

# Ends as `how.json` says of its unit's number: with an exit code, or when it is told.
STAND_IN = """
import fcntl, json, os, signal, sys, time
flags = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
workdir = flags["workdir"]
sweep = os.path.dirname(os.path.dirname(workdir))
lock = open(os.path.join(workdir, "lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
with open(os.path.join(sweep, "..", "ran.txt"), "a") as file:
    file.write(os.path.basename(workdir)[:2] + "\\n")
how = json.load(open(os.path.join(sweep, "..", "how.json")))
how = how.get(os.path.basename(workdir)[:2], "finish")
if how == "wait":
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append("SIGTERM"))
    signal.signal(signal.SIGINT, lambda *_: asked.append("SIGINT"))
    open(os.path.join(workdir, "begun"), "w").close()
    wait_until = time.time() + 30
    released = os.path.join(sweep, "..", "release")
    while not asked and not os.path.exists(released) and time.time() < wait_until:
        time.sleep(0.01)
    time.sleep(0.4 if asked else 0.0)  # room for a second signal, which would be wrong
    with open(os.path.join(sweep, "..", "asked.txt"), "a") as file:
        file.write("".join(asked))
    if asked:
        sys.exit(130 if asked[0] == "SIGINT" else 0)
    how = "finish"
if how == "finish":
    held_out = {"loss": 4.0 + int(os.path.basename(workdir)[:2])}
    with open(os.path.join(workdir, "result.json"), "w") as file:
        json.dump({"evaluations": {"held_out": held_out}}, file)
    sys.exit(0)
if how == "SIGKILL":
    os.kill(os.getpid(), signal.SIGKILL)
print("Traceback: noise", file=sys.stderr)
print("runner: the disk is full", file=sys.stderr)
print("  more noise", file=sys.stderr)
sys.exit(how)
"""

# A sweep in a process of its own, of the same stand-ins.
SWEEP = f"""
import sys
from runner import main
from runner.sweeps import sequential
sequential.PROGRAM = (sys.executable, "-c", {STAND_IN!r})
sys.exit(main.main(["runner", *sys.argv[1:]]))
"""


class Sweep:
    """Three units, and how each of them is to end."""

    def __init__(self, directory):
        self.directory = directory
        self.path = directory / "sweep"
        names = {"fdl.a": "a"}
        entries = []
        for number in range(3):
            name = f"{number:02}-a={number}"
            (self.path / "units" / name).mkdir(parents=True)
            (self.path / "units" / name / "config.txt").write_text("num_steps: 3\n")
            entry = frozen_lib.entry(name, {"fdl.a": number})
            entries.append(dataclasses.asdict(entry))
        content = {
            "version": frozen_lib.VERSION,
            "said": {"graph": "a.py", "overrides": [], "sweep": "lr"},
            "source": "",
            "names": names,
            "units": entries,
        }
        (self.path / "sweep.json").write_text(json.dumps(content))
        self.how()

    def how(self, **ends):
        """`_01="wait"`: what becomes of unit 01."""
        found = {number.removeprefix("_"): end for number, end in ends.items()}
        (self.directory / "how.json").write_text(json.dumps(found))

    @property
    def ran(self):
        path = self.directory / "ran.txt"
        return path.read_text().split() if path.exists() else []

    @property
    def asked(self):
        path = self.directory / "asked.txt"
        return path.read_text() if path.exists() else ""

    @property
    def finished(self):
        return [unit.finished for unit in sweeps.load(self.path).units]

    def run(self):
        return main.main(["runner", f"--workdir={self.path}"])

    def start(self):
        return subprocess.Popen(
            [sys.executable, "-c", SWEEP, f"--workdir={self.path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def begun(self, process, number):
        """Waits until unit `number` is under way."""
        (unit,) = self.path.glob(f"units/{number}-*")
        until = time.time() + 60
        while not (unit / "begun").exists():
            assert process.poll() is None and time.time() < until, process.poll()
            time.sleep(0.01)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sequential, "PROGRAM", (sys.executable, "-c", STAND_IN))
    return Sweep(tmp_path)


def test_units_run_in_order_and_the_table_ends_it(sweep, capfd):
    assert sweep.run() == 0
    assert sweep.ran == ["00", "01", "02"]
    said = capfd.readouterr().out
    assert said.startswith("unit 1/3 a=0\nunit 2/3 a=1\nunit 3/3 a=2\n\n")
    assert ">   00  0       4.000  finished" in said
    for name in ("sweep.md", "results.json", "report.html", "sweep.svg"):
        assert (sweep.path / name).exists(), name


def test_finished_units_are_passed_over(sweep, capfd):
    sweep.run()
    capfd.readouterr()
    assert sweep.run() == 0
    assert sweep.ran == ["00", "01", "02"]
    assert "unit 2/3 a=1: finished\n" in capfd.readouterr().out


def test_a_failed_unit_is_named_and_the_others_go_on(sweep, capfd):
    sweep.how(_01=7)
    with pytest.raises(SystemExit) as ended:
        sweep.run()
    said = capfd.readouterr()
    assert ended.value.code == 1
    assert sweep.finished == [True, False, True]
    words = "failed, exit code 7: runner: the disk is full"
    assert f"unit 2/3 a=1: {words}\n" in said.out
    assert said.err == "runner: 1 of 3 units failed: 01-a=1\n"
    assert f"  01: {words}\n" in said.out  # below the table
    sweep.how()
    assert sweep.run() == 0
    assert sweep.ran == ["00", "01", "02", "01"]
    assert "failed, " not in capfd.readouterr().out


def test_a_failed_unit_that_is_tried_again_has_failed_no_longer(sweep, capfd):
    for end in (7, 0):  # then it is stopped
        sweep.how(_01=end)
        with pytest.raises(SystemExit):
            sweep.run()
    capfd.readouterr()
    sweeps.summarize(sweeps.load(sweep.path))
    assert "    01  1           –  not begun\n" in capfd.readouterr().out


def test_a_unit_that_was_killed_failed(sweep, capfd):
    sweep.how(_00="SIGKILL")
    with pytest.raises(SystemExit):
        sweep.run()
    assert "unit 1/3 a=0: failed, ended by SIGKILL\n" in capfd.readouterr().out
    assert sweep.finished == [False, True, True]


def test_a_unit_that_was_stopped_by_itself_stops_the_sweep(sweep, capfd):
    sweep.how(_01=0)
    with pytest.raises(SystemExit) as ended:
        sweep.run()
    assert ended.value.code == 0
    assert sweep.ran == ["00", "01"]
    said = capfd.readouterr().out.splitlines()[-1]
    assert said == (
        "ended without a result: unit 2 of 3; "
        f"go on with: runner --workdir={sweep.path}"
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_reaches_the_unit_once_and_the_sweep_ends(sweep, number, code):
    sweep.how(_01="wait")
    process = sweep.start()
    sweep.begun(process, "01")
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "")
    assert output.endswith(
        f"stopped in unit 2 of 3; go on with: runner --workdir={sweep.path}\n"
    )
    assert sweep.asked == number.name
    assert sweep.ran == ["00", "01"]
    sweep.how()
    assert sweep.run() == 0
    assert sweep.ran == ["00", "01", "01", "02"]


@pytest.mark.slow  # waiting and finished units have tests of their own
def test_after_kill_9_the_unit_under_way_is_waited_for_and_nothing_is_repeated(sweep):
    sweep.how(_01="wait")
    first = sweep.start()
    sweep.begun(first, "01")
    first.kill()
    first.wait()
    first.stdout.close()  # The unit, which lives on, holds the other ends.
    first.stderr.close()
    second = sweep.start()
    until = time.time() + 60
    line = ""
    while "waiting" not in line:
        assert second.stdout is not None and time.time() < until
        line = second.stdout.readline()
    assert line == "unit 2/3 a=1: runs in another process; waiting for it\n"
    (sweep.directory / "release").touch()
    output, errors = second.communicate(timeout=60)
    assert (second.returncode, errors) == (0, "")
    assert output.startswith("unit 2/3 a=1: finished\nunit 3/3 a=2\n")
    assert sweep.ran == ["00", "01", "02"]
    assert sweep.finished == [True, True, True]


@pytest.mark.slow
def test_two_sweeps_do_not_run_in_one_directory(sweep):
    sweep.how(_00="wait")
    first = sweep.start()
    sweep.begun(first, "00")
    second = sweep.start()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"{sweep.path} is in use by process {first.pid} on" in errors
    (sweep.directory / "release").touch()
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_the_directory_of_a_sweep_alone_says_what_came_of_it(sweep, capsys):
    from runner.sweeps.__main__ import main as show

    assert show([str(sweep.path)]) == 0
    assert capsys.readouterr().out.count("not begun") == 3
    assert show([str(sweep.directory)]) == 2
    assert "holds no sweep (no sweep.json)" in capsys.readouterr().err
    assert show([]) == 2


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--print_config", "holds a sweep; --print_config looks at one run"),
        ("--dry_run", "holds a sweep; --dry_run looks at one run"),
        ("--fdl.a=3", "graphs of a sweep are frozen; --fdl.a=3 would need another"),
    ],
)
def test_what_a_frozen_sweep_has_no_answer_to(sweep, capsys, flag, said):
    assert main.main(["runner", f"--workdir={sweep.path}", flag]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert sweep.ran == []
