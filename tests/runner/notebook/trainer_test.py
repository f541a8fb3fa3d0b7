"""A trainer by hand takes the steps of the command, and what it saves goes on there."""

import json
import pydoc_data.topics
import re
import types

import fiddle as fdl
import pytest

import configs.dense
import runner
from runner import data, runtime
from runner.errors import UserError
from runner.graph import build
from runner.notebook.trainer import Trainer
from tests.configs.world import ROOT, World, read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    world.text.write_text(pydoc_data.topics.topics["assignment"])
    return world


@pytest.fixture(scope="module")
def whole(world):
    """A run of the command, whole."""
    return world.run(read("moe_zloss"), "whole")


@pytest.fixture(scope="module")
def trainer(world):
    settings = runtime.Runtime(input=runtime.Input(cache=str(world.folder / "cache")))
    with Trainer(world.tiny(read("moe_zloss")), settings) as trainer:
        yield trainer


def logged(opened):
    rows = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    return {row["step"]: row for row in rows if "learning/total" in row}


def test_its_steps_are_those_of_the_command_which_goes_on_from_them(
    world, whole, trainer
):
    first = trainer.step()
    by_command = logged(whole)
    learning = {name for name in first if name.startswith("learning/")}
    assert learning and learning <= set(by_command[1])
    assert {name: first[name] for name in learning} == {
        name: by_command[1][name] for name in learning
    }

    # The same directory, as the command would go on with it.
    trainer.save(world.folder / "by_hand")
    assert trainer.metrics["step"].tolist() == [1]
    second = trainer.run(1)
    assert second["learning/total"][0] == by_command[2]["learning/total"]
    resumed = world.run(read("moe_zloss"), "by_hand")
    assert logged(resumed)[2]["learning/ce"] == by_command[2]["learning/ce"]
    ends = [
        json.loads((opened.path / "result.json").read_text())["evaluations"]
        for opened in (whole, resumed)
    ]
    assert ends[0] == ends[1]
    measured = trainer.evaluate()["held_out"]
    assert measured["loss"] == ends[0]["held_out"]["loss"]

    with pytest.raises(UserError, match="num_steps=2, 0 are left"):
        trainer.step()

    names = ["learning/total", "learning/ce"]
    [axes] = trainer.plot(*names).axes
    assert [line.get_label() for line in axes.lines] == names
    with pytest.raises(UserError, match="did you mean 'learning/total'"):
        trainer.plot("learning/totl")


def test_it_writes_text(trainer):
    one, several = (
        trainer.sample("x = ", num_tokens=4),
        trainer.sample(["x = ", "def "]),
    )
    assert isinstance(one, str) and len(several) == 2
    assert trainer.sample("x = ", num_tokens=4) == one


def test_without_a_graph_nothing_is_saved(world, tmp_path):
    experiment = build.job(world.tiny(read("dense")))
    with (
        runner.Trainer(experiment) as trainer,
        pytest.raises(UserError, match="save needs the graph"),
    ):
        trainer.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_job_is_refused():
    graph = fdl.Config(runner.Sample, model="runs/teacher", prompts=("a",))
    with pytest.raises(UserError):
        Trainer(graph)
    with pytest.raises(UserError, match="not TextFiles"):
        Trainer(data.TextFiles(files=("a",)))


def test_the_page_shows_what_runs(world, tmp_path, monkeypatch):
    graph = world.tiny(read("dense"))
    graph.num_steps = 11
    made_tiny = types.SimpleNamespace(as_buildable=lambda: graph)
    monkeypatch.setattr(configs.dense, "config", made_tiny)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "notebook.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {}
        exec(block, names)
        if "trainer" in names:
            names["trainer"].close()
    [checkpoint] = (tmp_path / "runs" / "by_hand" / "checkpoints").iterdir()
    assert int(checkpoint.name) == 11
