"""Graphs in files and back."""

import functools
import json
from pathlib import Path

import fiddle as fdl
import jax
import jax.numpy as jnp
import optax
import pytest

import losses
import models
from models.initializers import Normal
from models.tags import DType
from runner.errors import UserError
from runner.experiment import Experiment
from runner.graph import describe, overrides, read, to_json, to_python
from tests.runner.graph.hostile import REFUSED

SAMPLE = str(Path(__file__).parents[1] / "sample.py")


def graph():
    """Containers of every kind, tags, a shared node, a finished object."""
    schedule = fdl.Config(optax.cosine_decay_schedule, 1e-3, decay_steps=10)
    cfg = fdl.Config(
        Experiment,
        student=fdl.Partial(
            models.Transformer, vocab_size=8, dtype="bfloat16", init=Normal(stddev=0.5)
        ),
        losses=[
            fdl.Config(
                losses.LossTerm, name="ce", loss=fdl.Config(losses.CrossEntropy)
            ),
            fdl.Config(losses.LossTerm, name="z", weight=schedule),
        ],
        optimizer=fdl.Config(
            optax.chain,
            fdl.Config(optax.clip, float("inf")),
            fdl.Config(optax.adamw, schedule),
        ),
        num_steps=10,
        evaluations=({"a": (1, None)}, frozenset("a")),
    )
    cfg.losses[0].mask = losses.token_mask
    cfg.losses[0].token_weight = jax.nn.relu
    return cfg


def test_json_gives_the_graph_back():
    cfg = graph()
    again = to_json.from_json(to_json.to_json(cfg), "config.json")
    assert describe.text(again) == describe.text(cfg)
    assert again.optimizer[1].learning_rate is again.losses[1].weight
    assert fdl.build(again.student).keywords["init"] == Normal(stddev=0.5)


def test_json_keeps_tags():
    tagged = overrides.apply(graph(), [])
    again = to_json.from_json(to_json.to_json(tagged), "config.json")
    fdl.set_tagged(again, tag=DType, value="float32")
    assert again.student.dtype == "float32"


def test_json_is_the_same_text_every_time():
    assert to_json.to_json(graph()) == to_json.to_json(graph())


@pytest.mark.parametrize("cfg", [graph, lambda: read.read(SAMPLE)[0]])
def test_the_python_file_makes_the_graph_again(cfg, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(to_python.to_python(cfg()))
    again, _ = read.read(str(file))
    assert describe.text(again) == describe.text(cfg())


def test_the_python_file_reads_well():
    cfg = fdl.Config(losses.LossTerm, name="z", loss=fdl.Config(losses.ZLoss))
    assert to_python.to_python(cfg).endswith(
        "import fiddle as fdl\n"
        "import losses\n"
        "\n\n"
        "def config():\n"
        "    return fdl.Config(\n"
        "        losses.LossTerm,\n"
        "        name='z',\n"
        "        loss=fdl.Config(losses.ZLoss),\n"
        "    )\n"
    )


def renamed(module, name):
    """A saved z-loss that claims to be something else."""
    text = to_json.to_json(fdl.Config(losses.ZLoss))
    text = text.replace('"losses.z_loss"', json.dumps(module))
    return text.replace('"ZLoss"', json.dumps(name))


@pytest.mark.parametrize(("module", "name"), REFUSED)
def test_a_saved_graph_may_not_name_other_things(module, name):
    with pytest.raises(UserError, match=r"config\.json: "):
        to_json.from_json(renamed(module, name), "config.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "3", "null", '{"root": {"type": "ref"}}']
)
def test_damage_is_named(text):
    with pytest.raises(UserError, match=r"config\.json: (not a saved|expected)"):
        to_json.from_json(text, "config.json")


def hidden():
    """Return a function whose module has another by its name."""

    def renamed(outputs):
        return outputs

    renamed.__qualname__ = "renamed"
    return renamed


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (lambda outputs: 1, "mask: .*lambda> cannot be saved; give it a name"),
        (jnp.zeros(3), "cannot be saved"),
        (functools.partial(losses.target_mask), "cannot be saved"),
        (hidden(), r"mask: 'tests\..*\.renamed' cannot be imported by that name"),
    ],
)
def test_what_could_not_be_read_back_is_not_saved(value, complaint):
    with pytest.raises(UserError, match=complaint):
        to_json.to_json(fdl.Config(losses.LossTerm, name="a", mask=value))


def test_whatever_can_be_imported_is_saved_and_named():
    cfg = fdl.Config(losses.LossTerm, name="a", mask=json.loads, weight=optax.sgd)
    text = to_json.to_json(cfg)
    assert to_json.foreign_modules(text) == ["json"]
    with pytest.raises(UserError, match=r"'json.loads' may not stand in a saved graph"):
        to_json.from_json(text, "config.json")
    assert to_json.from_json(text, "config.json", ["json"]) == cfg
    with pytest.raises(UserError, match=r"'os.system' may not stand"):
        to_json.from_json(renamed("os", "system"), "config.json", ["json"])


def test_what_a_config_file_defines_needs_that_file(monkeypatch):
    cfg, module = read.read(SAMPLE)
    text = to_json.to_json(cfg)
    assert to_json.from_json(text, "config.json") == cfg
    monkeypatch.delitem(to_json.sys.modules, module.__name__)
    with pytest.raises(UserError, match=f"needs 'Job' of {SAMPLE}; .*--fdl_config="):
        to_json.from_json(text, "config.json")
