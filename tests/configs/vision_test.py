"""The configs of images made tiny: they train, teach, go on, and refuse."""

import json
from pathlib import Path

import gin
import numpy as np
import pytest

from configs import papers
from runner import main
from tests.runner.data.images.idx_files import write

ROOT = Path(__file__).parents[2]
TINY = ["--fdl.batch_size=16", "--fdl.evaluations.held_out.batch_size=16"]
PRINT = "--print_config"
LOOP = ["--gin.loop.log_every=1", "--gin.loop.evaluate_batches=1"]


def run(name, workdir, *flags):
    config = f"--fdl_config={ROOT / 'configs' / name}.py"
    try:
        given = ["runner", config, f"--workdir={workdir}", *TINY, *LOOP, *flags]
        return main.main(given)
    finally:
        gin.clear_config()


def metrics(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if not k.startswith("speed/")} for r in rows]


@pytest.mark.slow
def test_digits_teach_digits_and_tell_images(tmp_path, capsys):
    # dear: whole runs, compiled as a user would.
    assert run("vision_digits", tmp_path / "teacher", "--fdl.num_steps=2") == 0
    shown = capsys.readouterr().out
    assert "images/s" in shown and "nats/image  accuracy" in shown
    assert "nearest mean" in shown and "token" not in shown
    page = (tmp_path / "teacher" / "report.html").read_text()
    assert "1.44k images" in page and "nats per image" in page
    taught = f"--fiddler=online({str(tmp_path / 'teacher')!r})"
    assert run("vision_digits", tmp_path / "student", taught, "--fdl.num_steps=2") == 0
    found = [
        r["learning/kd"] for r in metrics(tmp_path / "student") if "learning/kd" in r
    ]
    assert len(found) == 2 and np.isfinite(found).all()


@pytest.mark.slow
def test_every_loss_of_the_page_of_papers_is_a_point_and_one_trains(tmp_path, capsys):
    # dear: whole runs, compiled as a user would.
    assert run("vision_digits", tmp_path / "teacher", "--fdl.num_steps=2") == 0
    teacher = f"--fdl.teacher.checkpoint={tmp_path / 'teacher'}"
    capsys.readouterr()
    assert run("papers", tmp_path / "sweep", teacher, "--sweep=losses", PRINT) == 0
    shown = capsys.readouterr().out
    texts = papers.OF_LABELS + papers.BESIDE_LABELS
    assert all(text.split("(")[0].split(".")[1] in shown for text in texts)
    loss = f"--fdl.losses.beside.loss={papers.BESIDE_LABELS[-1]}"
    assert run("papers", tmp_path / "run", teacher, loss, "--fdl.num_steps=2") == 0
    rows = metrics(tmp_path / "run")
    assert any("held_out/metrics/negative_flip" in row for row in rows)
    assert len([row for row in rows if "learning/beside" in row]) == 2


@pytest.mark.slow
def test_a_vision_transformer_reads_idx_files(tmp_path, capsys):
    # dear: whole runs, compiled as a user would.
    for prefix in ("train", "t10k"):
        write(tmp_path, count=32, prefix=prefix, zipped=True)
    flags = [
        f"--fiddler=fashion({str(tmp_path)!r})",
        *TINY,
        "--fdl.num_steps=2",
        "--fdl.student.num_layers=1",
        "--fdl.student.patch_size=2",
    ]
    workdir = tmp_path / "run"
    assert run("vision_digits", workdir, *flags, "--fdl.student.image_size=(4,6)") == 0
    assert any("held_out/accuracy" in row for row in metrics(workdir))
    capsys.readouterr()
    assert run("vision_digits", tmp_path / "other", *flags) == 2
    said = capsys.readouterr().err
    assert "takes images of 28 x 28 x 1; the data's are 4 x 6 x 1" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fdl.student.num_classes=9"], "9 outputs for 10 classes (0, 1, 2, ...)"),
        (["--fdl.train_data.partition.held_out=1.0"], "held_out must be above 0"),
    ],
)
def test_what_does_not_fit_is_a_line(tmp_path, capsys, flags, said):
    assert run("vision_digits", tmp_path / "run", *flags) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow  # `tests/compatibility/runs_test.py` goes on with a stopped run
def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(tmp_path, monkeypatch):
    # dear: a whole run, one that is stopped, and its continuation.
    from runner.train.hooks import Hooks

    flags = ["--fdl.num_steps=6", "--gin.loop.checkpoint_every=2"]
    assert run("vision_digits", tmp_path / "whole", *flags) == 0
    observe = Hooks.observe

    def fails(self, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        observe(self, step, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Hooks, "observe", fails)
        assert run("vision_digits", tmp_path / "cut", *flags) == 130
    assert run("vision_digits", tmp_path / "cut", *flags) == 0
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
