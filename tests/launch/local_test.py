"""Units on this machine: in order, side by side, failed, stopped, killed; and again.

Most with a stand-in for `runner`, in milliseconds; the last with the real one.
"""

import os
import signal
import subprocess
import sys

import pytest

from launch import processes
from runner.errors import UserError
from runner.workdir import lock
from tests.launch.stand_ins import ROOT, Sweep, wait

TINY = "tests/runner/sweeps/tiny_config.py"


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_units_run_in_order_and_the_table_ends_it(sweep, capfd):
    assert sweep.run() == 0
    assert sweep.began == ["00", "01", "02"]
    said, warned = capfd.readouterr()
    assert said.startswith("unit 1/3 a=0\n00 says this\nunit 1/3 a=0: finished\n")
    assert "nats/token" in said.split("unit 3/3 a=2: finished")[1]
    assert warned == "00 warns\n01 warns\n02 warns\n"
    assert (sweep.path / "sweep.md").exists()


def test_a_unit_is_started_with_its_own_flags_and_no_others_when_alone(sweep):
    sweep.run()
    unit = sweep.units[0]
    assert sweep.log[0] == f"00 began -m runner.main --workdir={unit.path}"


def test_finished_units_are_named_and_not_run_again(sweep, capfd):
    sweep.run()
    assert sweep.run() == 0
    assert len(sweep.began) == 3
    assert capfd.readouterr().out.count("unit 2/3 a=1: finished\n") == 2


def test_a_unit_that_fails_is_named_with_its_reason_and_the_others_go_on(sweep, capfd):
    sweep.how({"01": 3})
    assert sweep.run() == 1
    assert sweep.began == ["00", "01", "02"]
    said, warned = capfd.readouterr()
    reason = "failed, exit code 3: runner: the disk is full"
    assert f"unit 2/3 a=1: {reason}\n" in said
    assert said.count(reason) >= 2, "the table of the sweep says it too"
    assert warned.endswith("launch: failed: 01-a=1\n")
    sweep.how({})
    assert sweep.run() == 0
    assert sweep.began[3:] == ["01"]


def test_units_run_side_by_side(sweep, capfd):
    sweep.how({"00": "wait", "01": "wait"})
    process = sweep.start(parallel=2)
    sweep.wait_for("00")
    sweep.wait_for("01")
    assert sweep.began == ["00", "01"] or sweep.began == ["01", "00"]
    process.terminate()
    code, out, _ = ended(process)
    assert code == 0
    assert "00-a=0: 00 says this\n" in out and "01-a=1: 01 says this\n" in out


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_once_and_the_checkpoint_awaited(sweep, number, code):
    sweep.how({"01": "wait"})
    process = sweep.start()
    sweep.wait_for("01")
    process.send_signal(number)
    found, out, err = ended(process)
    assert (found, err) == (code, "00 warns\n01 warns\n")
    assert sweep.log[-1] == f"01 {number.name} and saved"
    assert out.endswith(
        "unit 2/3 a=1: stopped\n2 of 3 units are left; go on with: "
        f"python -m launch local -- --workdir={sweep.path}\n"
    )
    sweep.how({})
    assert sweep.run() == 0
    assert sweep.began[2:] == ["01", "02"]


def test_how_to_go_on_names_the_number_of_processes(sweep, capfd):
    sweep.how({"00": 0, "00.1": 0})
    assert sweep.run(processes=2) == 0
    going_on = f"python -m launch local --processes=2 -- --workdir={sweep.path}\n"
    assert f"1 of 3 units are left; go on with: {going_on}" in capfd.readouterr().out


def test_a_run_that_a_signal_ends_while_it_starts_has_not_failed(sweep):
    sweep.how({"00": "young"})
    process = sweep.start()
    sweep.wait_for("00")
    process.terminate()
    code, out, _ = ended(process)
    assert code == 0 and "unit 1/3 a=0: stopped\n" in out
    assert not list(sweep.path.glob("units/*/failure.json"))


def test_runs_do_not_outlive_a_launcher_that_is_killed(sweep, capfd):
    sweep.how({"01": "wait"})
    process = sweep.start()
    sweep.wait_for("01")
    process.kill()
    ended(process)
    # At once again, while the one that was left still saves its checkpoint.
    sweep.how({})
    assert sweep.run() == 0
    assert "01 SIGTERM and saved" in sweep.log
    assert sweep.began == ["00", "01", "01", "02"]
    said = capfd.readouterr().out
    assert "unit 1/3 a=0: finished\n" in said
    assert "unit 2/3 a=1: another process holds it; waiting\n" in said


def test_a_second_launcher_is_refused(sweep):
    with lock.hold(sweep.path / "lock"), pytest.raises(UserError, match="in use by"):
        sweep.run()


def test_two_processes_know_each_other_and_the_first_one_speaks(sweep, capfd):
    assert sweep.run(processes=2, environment={"A": "b"}) == 0
    flags = [line.split("--gin.distributed.")[1:] for line in sweep.log]
    assert len(flags) == 6
    by_process = {flag[2]: flag for flag in flags[:2]}
    first, second = by_process["process=0"], by_process["process=1"]
    assert first[0] == second[0] and first[0].startswith("coordinator=127.0.0.1:")
    assert first[1] == second[1] == "processes=2 "
    said, warned = capfd.readouterr()
    assert "00 says this\n" in said and "00.1 says this" not in said
    assert "process 1: 00.1 warns\n" in warned and "\n00 warns\n" in f"\n{warned}"


def test_one_of_two_that_dies_ends_the_other_and_is_named(sweep, capfd, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 0.5)
    sweep.how({"00.1": 1, "00": "wait"})
    assert sweep.run(processes=2) == 1
    assert "00 SIGTERM and saved" in sweep.log
    said = capfd.readouterr().out
    assert (
        "unit 1/3 a=0: process 1 of 2 failed, exit code 1: runner: the disk is full\n"
        in said
    )


def test_one_that_does_not_listen_is_killed(sweep, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 0.2)
    monkeypatch.setattr(processes, "_GRACE", 0.5)
    sweep.how({"00.1": 1, "00": "deaf"})
    assert sweep.run(processes=2) == 1
    assert sweep.log.count("00 SIGTERM") == 1
    assert "00 went on to the end" not in sweep.log


def test_each_process_sees_its_own_devices(sweep):
    spec = sweep.spec(processes=2, devices=2)
    assert processes.visible(spec, 1) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert processes.visible(sweep.spec(), 0) == {}


def launch(tmp_path, *flags):
    text = tmp_path / "text.txt"
    if not text.exists():
        pages = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
        text.write_text("\n".join(pages))
    reads = f"--fiddler=reads({str(text)!r})"
    run = [f"--fdl_config={TINY}", reads, f"--workdir={tmp_path / 'sweep'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "launch", "local", "--", *run, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_one_run_without_a_sweep(tmp_path):
    code, out, err = ended(launch(tmp_path, "--fdl.num_steps=2"))
    assert code == 0, err
    assert out.startswith("unit 1/1\n") and "unit 1/1: finished\n" in out
    assert list(tmp_path.glob("sweep/units/*/result.json"))


@pytest.mark.slow
def test_a_sweep_of_real_runs_goes_on_after_its_launcher_is_killed(tmp_path):
    flags = ("--sweep=rates(1e-3, 1e-2)", "--fdl.num_steps=200")
    cadence = "--gin.loop.checkpoint_every=20"
    process = launch(tmp_path, *flags, cadence)
    wait(lambda: list(tmp_path.glob("sweep/units/00*/checkpoints/*")))
    process.kill()
    ended(process)
    killed = launch(tmp_path, *flags)
    code, out, err = ended(killed)
    assert code == 0, err
    [first, second] = sorted(tmp_path.glob("sweep/units/*"))
    assert len((first / "command.txt").read_text().splitlines()) == 6
    assert (first / "result.json").exists() and (second / "result.json").exists()
    assert out.count(": finished\n") == 2
