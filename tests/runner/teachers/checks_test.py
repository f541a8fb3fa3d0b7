"""Teachers: what is refused before a step, cautions, and saved graphs."""

import fiddle as fdl
import pytest

from runner.errors import UserError
from runner.graph import to_json
from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    OnlineTeacher,
)
from runner.weights import opening
from tests.models.pretrained import inputs
from tests.runner.teachers import examples
from tests.runner.teachers.examples import experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


def test_settings_missing_from_a_published_file_give_a_caution(tmp_path):
    file = str(inputs.write("mistral", tmp_path))
    (caution,) = opening.open_weights(file).cautions(64)
    assert "read with sliding_window None, hidden_act 'silu', as llama.cpp" in caution
    settings = {"sliding_window": 3, "hidden_act": "silu"}
    configured = opening.open_weights(file, settings)
    assert configured.cautions(64) == ()
    (caution,) = configured.cautions(65)
    assert "rows of 65 positions, more than the 64 it was made for" in caution
    assert configured.digest != opening.open_weights(file).digest


def test_a_missing_checkpoint_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "nothing")):
        OnlineTeacher(checkpoint=str(tmp_path / "nothing")).check()


def test_a_term_without_its_teacher_is_named(corpus):
    with pytest.raises(UserError, match=r"losses.kd: ForwardKL needs a teacher"):
        experiment(corpus, None).check()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMATeacher(decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: EnsembleTeacher(teachers=[]), "at least one teacher"),
        (
            lambda: EnsembleTeacher(teachers=[EMATeacher()], weights=[-1.0]),
            "weights must be 1 positive numbers",
        ),
        (
            lambda: EnsembleTeacher(teachers=[EMATeacher()], average="median"),
            "average must be 'probabilities' or 'logits'",
        ),
    ],
)
def test_invalid_fields_of_a_teacher_are_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_teacher_can_be_saved_in_a_graph(corpus):
    for node in [
        fdl.Config(OnlineTeacher, checkpoint="runs/x"),
        fdl.Config(EMATeacher),
        fdl.Config(EnsembleTeacher, teachers=[fdl.Config(EMATeacher)]),
    ]:
        assert to_json.from_json(to_json.to_json(node), "x") == node
