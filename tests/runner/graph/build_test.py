"""Objects out of graphs. Its messages: tests/runner/mistakes_test.py."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiddle as fdl
import optax
import pytest
from flax import nnx

import losses
from runner.errors import UserError
from runner.graph import build, job, read

SAMPLE = str(Path(__file__).parents[1] / "sample.py")


@dataclasses.dataclass(frozen=True)
class Checked(job.Checked):
    inner: Any = None
    items: Sequence[Any] = ()
    fine: bool = True

    def check(self):
        if not self.fine:
            raise UserError("is not fine")


def test_the_sample_is_built():
    cfg, module = read.read(SAMPLE)
    root: Any = build.job(cfg)
    assert isinstance(root, module.Job)
    assert isinstance(root.losses[1].loss, losses.ZLoss)
    assert isinstance(root.optimizer, optax.GradientTransformation)


@pytest.mark.parametrize(
    ("cfg", "path"),
    [
        (fdl.Config(Checked, fine=False), "<root>"),
        (fdl.Config(Checked, inner=fdl.Config(Checked, fine=False)), "inner"),
        (fdl.Config(Checked, items=[1, fdl.Config(Checked, fine=False)]), "items[1]"),
        (fdl.Config(Checked, inner={"a": fdl.Config(Checked, fine=False)}), "inner.a"),
    ],
)
def test_every_check_is_called_and_its_place_named(cfg, path):
    with pytest.raises(UserError) as refusal:
        build.objects(cfg)
    assert str(refusal.value) == f"{path}: is not fine"


def test_a_root_that_makes_no_job_is_refused():
    def function():
        return losses.ZLoss()

    with pytest.raises(UserError, match=r"makes losses\.ZLoss, which is no runner job"):
        build.job(fdl.Config(function))


def test_what_fits_passes():
    build.objects(fdl.Config(Checked, inner=fdl.Config(Checked), items=[1, "a", None]))


def test_positional_arguments_are_no_unknown_fields():
    chain = fdl.Config(optax.chain, fdl.Config(optax.identity))
    build.objects(fdl.Config(Checked, inner=chain))


def test_a_misspelt_field_of_an_nnx_module_is_found():
    class Layer(nnx.Module):
        def __init__(self, *, width: int, rngs: nnx.Rngs):
            raise AssertionError("never made")

    with pytest.raises(UserError, match="no field 'widht'; did you mean 'width'"):
        build.objects(fdl.Config(Checked, inner=fdl.Partial(Layer, widht=3)))


def test_a_bug_in_a_constructor_is_told_with_its_type_and_line():
    def buggy():
        return [][0]

    told = r"buggy\): IndexError: list index out of range \(build_test.py:\d+\)"
    with pytest.raises(UserError, match=told):
        build.objects(fdl.Config(buggy))
