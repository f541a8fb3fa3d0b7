"""Every config made tiny runs for two steps, on all devices there are."""

import json

import fiddle as fdl
import numpy as np
import pytest
from fiddle import selectors

from runner.graph import read as graph_read
from runner.records.reader import Records
from runner.teachers import OnlineTeacher
from tests.cases import cases
from tests.configs.world import PATHS, ROOT, World, populated, read


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return populated(tmp_path_factory.mktemp("world"))


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


@pytest.mark.slow  # the runs that every test of this file reads
def test_the_teacher_and_its_records_were_made(world):
    assert (world.folder / "dense" / "result.json").exists()
    assert len(Records.load(world.folder / "records")) == 16


class AsItIs(World):
    """The same folder, and graphs that are tiny already."""

    def tiny(self, cfg):
        return cfg


@pytest.mark.slow  # a whole run
def test_an_assistant_starts_as_layers_of_a_run_and_learns_what_to_forget(world):
    cfg, forget = world.tiny(read("dense")), world.folder / "forget.jsonl"
    rows = len(fdl.build(cfg.train_data).load())
    forget.write_text(
        "".join(f'{{"forget": {str(i % 2 == 0).lower()}}}\n' for i in range(rows))
    )
    of = str(world.folder / "dense")
    module = graph_read.read(str(ROOT / "configs" / "dense.py"))[1]
    module.assistant(cfg, of=of, forget=str(forget), num_layers=1)
    runs_two_steps(AsItIs(world.folder), cfg, "run-assistant")
