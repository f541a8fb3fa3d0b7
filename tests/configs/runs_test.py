"""Every config made tiny runs for two steps, on all devices there are."""

import dataclasses
import json
import pydoc_data.topics
from pathlib import Path

import fiddle as fdl
import gin
import numpy as np
import pytest
from fiddle import selectors

import losses
from runner import data
from runner.cli import gin_flags
from runner.cli.flags import Flag
from runner.graph import build, overrides
from runner.graph import read as graph_read
from runner.graph.overrides import Set
from runner.records.reader import Records
from runner.teachers import OfflineTeacher, OnlineTeacher
from runner.workdir import opening
from tests.cases import cases

ROOT = Path(__file__).parents[2]
# Images have other sizes: see vision_test.py.
PATHS = sorted(
    path
    for path in (ROOT / "configs").glob("*.py")
    if not path.stem.startswith("vision_")
)
VOCABULARY = 300


SIZES = {
    "dim": "32",
    "num_layers": "1",
    "num_heads": "2",
    "num_kv_heads": "None",
    "vocab_size": f"{VOCABULARY}",
}


@dataclasses.dataclass(frozen=True)
class World:
    """One text, teachers that are tiny students of two configs, and records of one."""

    folder: Path

    @property
    def text(self):
        return self.folder / "text.txt"

    def tiny(self, cfg):
        """The graph's own losses, model and optimiser, over little and on one file."""
        if hasattr(cfg, "student"):
            inner = "student.model" if hasattr(cfg.student, "model") else "student"
            sizes = [Set(f"{inner}.{name}", value) for name, value in SIZES.items()]
            cfg = overrides.apply(cfg, [*sizes, Set("num_steps", "2")])
            cfg.start = None  # of a model that is not here
        cfg.batch_size = 8
        documents = fdl.Config(data.TextFiles, files=(str(self.text),))
        tokenizer = fdl.Config(data.ByteBPE, documents, vocab_size=VOCABULARY)
        selectors.select(cfg, data.PythonLibrary).replace(documents)
        selectors.select(cfg, data.ByteBPE).set(vocab_size=VOCABULARY)
        selectors.select(cfg, data.GGUFTokenizer).replace(tokenizer)
        selectors.select(cfg, data.TokenizedText).set(sequence_length=16)
        selectors.select(cfg, data.Part).set(num_rows=16)
        _make_tiny_layout(cfg, documents, tokenizer)
        for teacher in selectors.select(cfg, OnlineTeacher):
            name = "moe" if teacher.checkpoint == "runs/moe_teacher" else "dense"
            teacher.checkpoint = str(self.folder / name)
        selectors.select(cfg, OfflineTeacher).set(records=str(self.folder / "records"))
        for over_layers in (losses.FeatureCosine, losses.Relations):
            selectors.select(cfg, over_layers).set(layers=((0, 0),))
        selectors.select(cfg, losses.Projected).set(student_dim=32, teacher_dim=32)
        for evaluation in getattr(cfg, "evaluations", ()):
            evaluation.batch_size = 8
        return cfg

    def run(self, cfg, name):
        """The work directory of a whole run."""
        gin_flags.apply(
            [
                Flag("gin.loop.log_every", "1"),
                Flag("gin.loop.evaluate_batches", "1"),
                Flag("gin.input.cache", str(self.folder / "cache")),
            ]
        )
        cfg = self.tiny(cfg)
        try:
            with opening.open_workdir(self.folder / name, cfg, ["runner"]) as opened:
                build.job(cfg).run(opened)
        finally:
            gin.clear_config()
        return opened

    def run_of(self, name):
        """The work directory of a config's run, which is made once."""
        if not (self.folder / name).exists():
            self.run(read(name), name)
        return self.folder / name


def _make_tiny_layout(cfg, documents, tokenizer):
    """Text for data that hold shapes alone, and heads and layers that fit `SIZES`."""
    if not list(selectors.select(cfg, data.PlannedTokens)):
        return
    text = fdl.Config(data.TokenizedText, documents, tokenizer, sequence_length=16)
    selectors.select(cfg, data.PlannedTokens).replace(text)
    cfg.student.num_kv_heads, cfg.student.mlp.hidden_dim = 1, 64
    cfg.teacher.model = None


def read(name, fiddler=""):
    module = graph_read.read(str(ROOT / "configs" / f"{name}.py"))
    cfg = module[0]
    return getattr(module[1], fiddler)(cfg) or cfg if fiddler else cfg


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    made.text.write_text(pydoc_data.topics.topics["assignment"])
    made.run(read("dense"), "dense")
    made.run(read("record_teacher"), "records")
    return made


def runs_two_steps(world, cfg, name):
    for teacher in selectors.select(cfg, OnlineTeacher):
        if teacher.checkpoint == "runs/moe_teacher":
            world.run_of("moe")
    opened = world.run(cfg, name)
    rows = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    for term in cfg.losses:
        values = [
            row[f"learning/{term.name}"] for row in rows if "learning/total" in row
        ]
        assert len(values) == 2 and np.isfinite(values).all()
    for evaluation in cfg.evaluations:
        assert any(f"{evaluation.name}/loss" in row for row in rows)


STUDENTS = [path.stem for path in PATHS if path.stem not in ("dense", "record_teacher")]


@pytest.mark.parametrize(
    # `world` has run a dense one; this one's student is a mixture.
    "name",
    cases({name: name for name in STUDENTS}, fast=()),
)
def test_it_runs_two_steps(world, name):
    # dear: whole runs, compiled as a user would.
    runs_two_steps(world, read(name), f"run-{name}")


@pytest.mark.slow
@pytest.mark.parametrize("fiddler", ["logits_only", "bias_balanced"])
def test_mixtures_learn_without_routers_and_balance_without_a_term(world, fiddler):
    # dear: whole runs, compiled as a user would.
    runs_two_steps(world, read("distill_moe", fiddler), fiddler)


@pytest.mark.slow
@pytest.mark.parametrize("fiddler", ["online", "labels_only"])
def test_the_same_students_learn_from_a_live_teacher_or_from_none(world, fiddler):
    # dear: whole runs, compiled as a user would.
    runs_two_steps(world, read("distill", fiddler), fiddler)


# dear: the runs that every test of this file reads
def test_the_teacher_and_its_records_were_made(world):
    assert (world.folder / "dense" / "result.json").exists()
    assert len(Records.load(world.folder / "records")) == 16
