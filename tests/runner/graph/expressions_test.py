"""Calls of allowed names as values of flags."""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fiddle as fdl
import jax
import optax
import pytest

import losses
import models
import runner
from losses import LossTerm
from models import students
from runner.cli.flags import Command
from runner.errors import UserError
from runner.graph import describe, expressions, literals, overrides, read
from runner.graph.namespace import Namespace
from runner.graph.overrides import Append, Set
from runner.sweeps import plan, points
from tests.runner.graph.hostile import REFUSED

SAMPLE = str(Path(__file__).parents[1] / "sample.py")

Loss = losses.Loss | Callable[..., losses.Loss]


def value(text, hint=Any):
    return expressions.read(text, hint, Namespace())


@pytest.mark.parametrize(
    ("text", "hint", "node"),
    [
        ("losses.ZLoss()", Loss, fdl.Config(losses.ZLoss)),
        ("ZLoss()", Loss, fdl.Config(losses.ZLoss)),
        ("'losses.ZLoss()'", Loss, fdl.Config(losses.ZLoss)),
        (
            "losses.ForwardKL(temperature=2)",
            Any,
            fdl.Config(losses.ForwardKL, temperature=2.0),
        ),
        (
            "runner.OnlineTeacher(checkpoint='runs/a b')",
            runner.OnlineTeacher | None,
            fdl.Config(runner.OnlineTeacher, checkpoint="runs/a b"),
        ),
        (
            "[LossTerm(name='z', loss=losses.ZLoss(), weight=-1e-4)]",
            Sequence[LossTerm],
            [
                fdl.Config(
                    LossTerm, name="z", loss=fdl.Config(losses.ZLoss), weight=-1e-4
                )
            ],
        ),
        (
            "optax.chain(optax.clip(1.0), optax.scale(-0.1))",
            optax.GradientTransformation,
            fdl.Config(
                optax.chain, fdl.Config(optax.clip, 1.0), fdl.Config(optax.scale, -0.1)
            ),
        ),
        (
            "runner.averages.averaged(optax.sgd(0.1), {'ema': runner.averages.EMA()})",
            optax.GradientTransformation,
            fdl.Config(
                runner.averages.averaged,
                fdl.Config(optax.sgd, 0.1),
                {"ema": fdl.Config(runner.averages.EMA)},
            ),
        ),
        (
            "models.Transformer(vocab_size=8, mlp=models.MoE(num_experts=2))",
            Callable[..., models.Model],
            fdl.Partial(
                models.Transformer,
                vocab_size=8,
                mlp=fdl.Partial(models.MoE, num_experts=2),
            ),
        ),
        (
            "functools.partial(losses.ForwardKL, temperature=2.0)",
            Loss,
            fdl.Partial(losses.ForwardKL, temperature=2.0),
        ),
        ("jax.nn.relu", Callable | None, jax.nn.relu),
        ("losses.token_mask", Any, losses.token_mask),
        ("models.GatedMLP", Callable[..., Any], models.GatedMLP),
        ("students.small_moe()", Any, students.small_moe.as_buildable()),
        ("{'a': (1, ZLoss())}", Any, {"a": (1, fdl.Config(losses.ZLoss))}),
    ],
)
def test_a_call_is_the_node_that_a_config_file_makes(text, hint, node):
    read_value = value(text, hint)
    assert type(read_value) is type(node)
    assert read_value == node


@pytest.mark.parametrize(
    ("text", "hint", "same"),
    [
        ("runs/losses.ZLoss", str, "runs/losses.ZLoss"),
        ("losses.ZLoss()", str | None, "losses.ZLoss()"),
        ("f(x).json", str, "f(x).json"),
        ("half", Any, "half"),
        ("'losses.ZLoss()'", Any, "losses.ZLoss()"),
        ("inf", float, float("inf")),
        ("1e-3", float | Callable, 1e-3),
        ("[1, 2]", tuple[int, ...], (1, 2)),
    ],
)
def test_text_and_literals_stay_what_they_are(text, hint, same):
    assert value(text, hint) == same


@pytest.mark.parametrize(
    ("text", "hint", "complaint"),
    [
        (
            "losses.ForwardKl()",
            Loss,
            "losses has no 'ForwardKl'; did you mean 'Forward",
        ),
        ("lossses.ZLoss()", Loss, "no name 'lossses'; did you mean 'losses'?"),
        (
            "ForwardKL(temprature=2)",
            Loss,
            "no field 'temprature'; did you mean 'temper",
        ),
        ("ForwardKL(temperature='x')", Loss, "temperature: expected float, got 'x'"),
        ("ForwardKL(temperature=1, temperature=2)", Loss, "temperature is there twice"),
        ("ForwardKL(2.0)", Loss, "takes 0 arguments by position, got 1"),
        ("ForwardKL(**{})", Loss, "** is not read; write the arguments out"),
        ("ForwardKL(temperature=1 + 1)", Loss, "expected literals, names and calls"),
        ("models.GatedMLP()", Loss, "expected Loss or a function, got models.GatedMLP"),
        ("losses.ZLoss", Loss, "got the class itself; write losses.ZLoss(...)"),
        ("losses", Loss, "losses is a module"),
        ("losses.txt", Any, "losses has no 'txt'"),
        ("losses.core.loss.re.compile('')", Loss, "losses.core.loss has no 're'"),
        ("ZLoss.__init__.__globals__", Loss, "has no '__init__'"),
        ("[].append(3)", Any, "expected a name such as losses.ZLoss, got []"),
        ("(lambda: 3)()", Any, "expected a name such as losses.ZLoss, got lambda"),
        ("losses.ZLoss()()", Any, "expected a name such as losses.ZLoss, got losses.Z"),
        ("functools.reduce(ZLoss)", Any, "'functools.reduce' may not stand in a graph"),
        ("functools.partial()", Any, "functools.partial needs a function or class"),
        ("__import__('os')", Any, "no name '__import__'"),
        ("losses.ZLoss()", int, "expected int, got losses.ZLoss"),
        ("[ZLoss()]", Sequence[LossTerm], "expected LossTerm, got losses.ZLoss"),
        ("[ZLoss()]", losses.ZLoss, "expected ZLoss, got a list"),
    ],
)
def test_what_may_not_stand_there_is_said(text, hint, complaint):
    with pytest.raises((UserError, literals.Mismatch)) as raised:
        value(text, hint)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(("module", "name"), REFUSED)
def test_a_flag_may_not_name_what_a_saved_graph_may_not(module, name):
    for text in (f"{module}.{name}", f"{module}.{name}()", f"{name}('x')"):
        with pytest.raises((UserError, literals.Mismatch)):
            value(text, losses.Loss)


def test_names_of_the_config_file_come_first():
    cfg, module = read.read(SAMPLE)
    new = overrides.apply(
        cfg, [Set("source", "Source(order='shuffled')")], module=module
    )
    assert fdl.build(new.source) == module.Source(order="shuffled")
    with pytest.raises(UserError, match="no name 'Source'"):
        overrides.apply(cfg, [Set("source", "Source(order='shuffled')")])


def test_a_file_beside_the_config_that_it_does_not_import_is_named(tmp_path):
    config = tmp_path / "mine.py"
    shutil.copy(SAMPLE, config)
    (tmp_path / "brier.py").touch()
    cfg, module = read.read(str(config))
    with pytest.raises(UserError) as raised:
        overrides.apply(cfg, [Set("source", "brier.Brier()")], module=module)
    said = "no name 'brier'; brier.py is there: write 'import brier' in mine.py"
    assert said in str(raised.value)


def changed(*changes):
    return overrides.apply(read.read(SAMPLE)[0], changes)


def test_none_drops_an_item_of_a_list_and_plus_appends_one():
    names = [term.name for term in changed(Set("losses.z_loss", "None")).losses]
    assert names == ["ce"]
    z = "LossTerm(name='z', loss=losses.ZLoss(), weight=1e-4)"
    new = changed(Set("losses[0]", "None"), Append("losses", z))
    assert [term.name for term in new.losses] == ["z_loss", "z"]
    assert fdl.build(new.losses[1]) == LossTerm(
        name="z", loss=losses.ZLoss(), weight=1e-4
    )
    with pytest.raises(UserError, match=r"^--fdl.losses\+=3: expected LossTerm, got 3"):
        changed(Append("losses", "3"))
    with pytest.raises(UserError, match=r"is no list; expected --fdl.num_steps=VALUE"):
        changed(Append("num_steps", "3"))


def test_an_item_that_may_be_none_becomes_none():
    cfg = fdl.Config(functools.partial, items=[1, 2])
    overrides.set_path(cfg, "items[0]", "None")
    assert cfg.items == [None, 2]


def test_fields_of_what_was_swapped_can_be_set_and_tags_reach_it():
    swap = Set("student", "models.Transformer(vocab_size=8)")
    dtype = overrides.SetTag("DType", "bfloat16")
    new = changed(swap, Set("student.num_heads", "2"), dtype)
    assert (new.student.num_heads, new.student.dtype) == (2, "bfloat16")


def test_a_point_of_a_sweep_may_be_a_call():
    command = Command(config=SAMPLE)
    lines = [
        describe.lines(plan.resolve(command, point))
        for point in points.check(
            [
                {"fdl.losses.ce.loss": "losses.ZLoss()"},
                {"fdl.losses.ce": None},
                {"fdl.losses+": "LossTerm(name='z', loss=ZLoss())"},
            ]
        )
    ]
    assert lines[0]["losses.ce.loss"] == "losses.ZLoss"
    assert [line["losses"] for line in lines[1:]] == ["[z_loss]", "[ce, z_loss, z]"]
    assert plan.short_names({"fdl.losses+": None}, lines[0]) == {
        "fdl.losses+": "losses"
    }
    sweep = "values('fdl.losses.ce.loss', 'ZLoss()', 'CrossEntropy()')"
    swept = plan.read(dataclasses.replace(command, sweep=sweep))
    assert [p["fdl.losses.ce.loss"] for p in swept] == ["ZLoss()", "CrossEntropy()"]
