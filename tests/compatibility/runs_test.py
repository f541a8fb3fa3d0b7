"""Work directories written by commit 4c223cb, before its names changed, go on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from runner import main
from runner.graph import build, to_json
from runner.records.reader import Records
from runner.sweeps import frozen
from tests.cases import cases

SAVED = Path(__file__).parent / "saved_4c223cb"
RUNTIME = (
    "--gin.input.cache=cache",
    "--gin.loop.log_every=1",
    "--gin.loop.evaluate_batches=2",
    "--gin.loop.checkpoint_every=4",
)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    shutil.copytree(SAVED, tmp_path / "saved")
    monkeypatch.chdir(tmp_path / "saved")
    return tmp_path / "saved"


def metrics(path):
    """Return the numbers by step and name, less what the clock decides."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {
        (row["step"], name): value
        for row in rows
        for name, value in row.items()
        if isinstance(value, float) and not name.startswith("speed/")
    }


# dear: compiles a whole run, as it was saved. That of the student reads nothing older
# than `test_records_are_read` and the graph of `stopped` do.
@pytest.mark.parametrize(
    "name", cases({"stopped": "stopped", "student": "student"}, fast=())
)
def test_a_stopped_run_goes_on_to_what_it_was(saved, name):
    assert main.main(["runner", f"--workdir={name}", *RUNTIME]) == 0
    resumed, expected = (
        metrics(f"{name}/metrics.jsonl"),
        metrics(f"expected/{name}.jsonl"),
    )
    assert set(expected) <= set(resumed)
    for key, value in expected.items():
        np.testing.assert_allclose(resumed[key], value, rtol=2e-3, err_msg=str(key))


def test_a_finished_run_is_left_alone(saved):
    before = Path("teacher/metrics.jsonl").read_text()
    assert main.main(["runner", "--workdir=teacher", *RUNTIME]) == 0
    assert Path("teacher/metrics.jsonl").read_text() == before


def test_records_are_read(saved):
    records = Records.load("records")
    assert len(records) == 32 and records.layout.format == 1
    first = records.read([0])[0]
    rows = {name: x[None] for name, x in first.row.items()}
    teacher = records.teacher_arrays([0], rows)
    assert set(teacher) == {
        f"teacher/{name}" for name in ("ids16", "drops", "log_normalizers")
    }
    np.testing.assert_array_equal(first.logits, first.drops * np.float32(-(2.0**-11)))


def test_the_units_of_a_sweep_are_jobs(saved):
    sweep = frozen.load("sweep")
    assert [unit.label for unit in sweep.units] == [
        "peak_value=0.001",
        "peak_value=0.01",
    ]
    for unit in sweep.units:
        build.job(to_json.load(str(unit.path / "config.json")))


def test_a_run_whose_checkpoints_are_all_damaged_stops(saved, capsys):
    for file in Path("stopped/checkpoints").rglob("d/*"):
        file.write_bytes(b"")
    assert main.main(["runner", "--workdir=stopped", *RUNTIME]) == 2
    error = capsys.readouterr().err
    assert "no checkpoint is whole; step 4: " in error and "--begin_anew" in error
    assert len(error.splitlines()) <= 3


def test_a_report_that_cannot_be_written_is_said_with_its_own_code(
    saved, capsys, monkeypatch
):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runner.report.write", fail)
    with pytest.raises(SystemExit) as end:
        main.main(["runner", "--workdir=teacher", *RUNTIME])
    assert end.value.code == 3
    output = capsys.readouterr().out
    assert "report.html cannot be written (No space left on device)" in output
    assert "the run is whole, but not written: report.html" in output
