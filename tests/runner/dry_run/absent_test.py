"""What a dry run does without: files of models that the graph describes."""

import functools

import fiddle as fdl
import pytest

from models import Transformer
from runner.errors import UserError
from runner.graph import build
from runner.teachers import EnsembleTeacher, OnlineTeacher

MODEL = functools.partial(Transformer, vocab_size=300, dim=16, num_heads=2)


def teacher(model):
    return fdl.Config(OnlineTeacher, checkpoint="nowhere", model=model)


def ensemble(*models):
    return fdl.Config(EnsembleTeacher, teachers=[teacher(model) for model in models])


def test_every_member_of_an_ensemble_may_be_absent():
    assert build.objects(ensemble(MODEL, MODEL), dry=True)


def test_but_not_one_whose_model_only_its_files_know():
    with pytest.raises(UserError, match=r"^teachers\[1\]: checkpoint: "):
        build.objects(ensemble(MODEL, None), dry=True)


@pytest.mark.parametrize("model", [MODEL, None])
def test_a_run_wants_the_files_of_both(model):
    with pytest.raises(UserError, match="checkpoint: "):
        build.objects(teacher(model))
