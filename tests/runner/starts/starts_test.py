"""Where a student's first weights come from."""

import dataclasses
import json
import shutil
from pathlib import Path

import fiddle as fdl
import jax
import numpy as np
import pytest

from models import pretrained
from runner import runtime, starts
from runner.checkpoint import choice
from runner.checkpoint.checkpoints import Checkpoints
from runner.data.labels import Classes
from runner.errors import UserError
from runner.train import loop
from runner.weights import opening as weights_opening
from runner.weights.published import PublishedWeights
from runner.workdir import opening
from runner.workdir.workdir import Workdir
from tests.models.pretrained.tables import (
    FAMILIES,
    FIXTURES,
    TOLERANCE,
    largest_difference,
)
from tests.runner.starts.contexts import CE, context, student_of
from tests.runner.states import assert_bits
from tests.runner.teachers import examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("starts")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


@pytest.fixture(scope="module")
def dataset(corpus):
    return fdl.build(corpus).load()


@pytest.fixture(scope="module")
def run(folder, dataset):
    return str(examples.write_run(folder / "run", dataset))


@pytest.fixture
def any_vocabulary(monkeypatch):
    monkeypatch.setattr(PublishedWeights, "check_vocabulary", lambda *_, **__: None)


@dataclasses.dataclass
class Words:
    """Data that nobody reads, of any vocabulary."""

    vocabulary = Classes([str(i) for i in range(64)])


# What is loaded


@pytest.mark.parametrize(
    "family",
    [
        "smollm2",
        "mixtral",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in FAMILIES
            if name not in ("mixtral", "smollm2")
        ),
    ],
)
def test_a_published_start_gives_the_logits_of_transformers(family, any_vocabulary):
    path = str(FIXTURES / family)
    student = fdl.copy_with(pretrained.student.as_buildable(path))
    ctx = context(student, Words())
    state = starts.Published(path=path).load(ctx).state()
    one = jax.device_get((state.params["student"], state.variables["student"]))
    model = ctx.modules.student(*one)
    assert largest_difference(model, family) < TOLERANCE


def test_a_run_gives_its_weights_bit_for_bit_and_all_else_is_fresh(run, dataset):
    ctx = context(examples.TEACHER, dataset, mesh=runtime.Mesh(data=2, fsdp=4), seed=7)
    loaded = starts.Run(workdir=run).load(ctx)
    state, fresh = loaded.state(), ctx.modules.create(7, ctx.mesh, ctx.rules)
    tensors = weights_opening.open_weights(run).tensors()
    for path, x in student_of(state).items():
        assert x.tobytes() == tensors[path].read().tobytes(), path
    assert int(state.step) == 0
    for one, other in zip(
        jax.tree.leaves(state.opt_state), jax.tree.leaves(fresh.opt_state), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    placed = jax.tree.map(lambda x: x.sharding, state)
    assert placed == ctx.modules.shardings(ctx.mesh, ctx.rules)
    assert loaded.summary == f"start: {run}: 21 loaded of 21"


def test_a_run_may_be_named_from_the_current_directory(run, dataset, monkeypatch):
    monkeypatch.chdir(Path(run).parent)
    ctx = context(examples.TEACHER, dataset)
    loaded = starts.Run(workdir=Path(run).name).load(ctx)
    whole = student_of(starts.Run(workdir=run).load(ctx).state())
    for path, x in student_of(loaded.state()).items():
        np.testing.assert_array_equal(x, whole[path])
    assert loaded.describe()["source"]["path"] == Path(run).name


def test_layers_may_be_stacked_in_one_and_separate_in_the_other(run, dataset):
    stacked = fdl.copy_with(examples.TEACHER, layers="stacked")
    state = starts.Run(workdir=run).load(context(stacked, dataset)).state()
    tensors = weights_opening.open_weights(run).tensors()
    query = student_of(state)["blocks/stacked/attention/query"]
    for layer in range(2):
        wanted = tensors[f"blocks/{layer}/attention/query"].read()
        np.testing.assert_array_equal(query[layer], wanted)


def test_only_a_part_may_be_loaded(run, dataset):
    ctx = context(examples.TEACHER, dataset, seed=3)
    part = starts.Only(start=starts.Run(workdir=run), parameters=["blocks/*/mlp/*"])
    loaded = part.load(ctx)
    got, whole = student_of(loaded.state()), starts.Run(workdir=run).load(ctx)
    fresh = student_of(ctx.modules.create(3, ctx.mesh, ctx.rules))
    trained = student_of(whole.state())
    for path, x in got.items():
        np.testing.assert_array_equal(x, (trained if "/mlp/" in path else fresh)[path])
    assert loaded.summary.endswith(": 6 loaded, 15 fresh of 21")


def test_a_head_of_its_own_begins_as_the_embedding_of_a_tied_start(
    dataset, any_vocabulary
):
    path = str(FIXTURES / "smollm2")
    student = pretrained.student.as_buildable(path)
    assert student.tie_head
    student.tie_head = False
    state = starts.Published(path=path).load(context(student, Words())).state()
    arrays = student_of(state)
    np.testing.assert_array_equal(arrays["output"], arrays["embedding"])


# What is refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_layers": 1}, "no place for blocks/1/.* and 8 more of .*run"),
        ({"num_layers": 3}, "nothing for blocks/2/.* of the student.*"),
        ({"dim": 32}, r"blocks/0/.* is \[32.*\] in the student, \[24.*\] in .*run"),
        ({"tie_head": True}, "no place for output of .*run"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(run, dataset, fields, said):
    ctx = context(fdl.copy_with(examples.TEACHER, **fields), dataset)
    with pytest.raises(UserError, match=f"^start: .*{said}\n.*starts.Only"):
        starts.Run(workdir=run).load(ctx)


def test_a_pattern_that_matches_nothing_is_named(run, dataset):
    part = starts.Only(start=starts.Run(workdir=run), parameters=["blocks/*/attn/*"])
    with pytest.raises(UserError, match=r"no parameter matches 'blocks/\*/attn/\*'"):
        part.load(context(examples.TEACHER, dataset))


def test_a_step_that_is_not_there_is_named_with_those_that_are(run, dataset):
    with pytest.raises(UserError, match=r"^start: .*no checkpoint of step 7: 1$"):
        starts.Run(workdir=run, step=7).load(context(examples.TEACHER, dataset))


def test_what_is_not_there_is_said_before_anything_is_built(tmp_path):
    for node in (
        starts.Run(workdir=str(tmp_path)),
        starts.Continued(workdir=str(tmp_path)),
    ):
        with pytest.raises(UserError, match="has no checkpoints"):
            node.check()
        node.check_resumed()
        node.check_shapes()
    with pytest.raises(UserError, match="path: no such file or folder"):
        starts.Published(path=str(tmp_path / "absent")).check()


def test_a_tokenizer_of_other_ids_is_refused(run, folder):
    other = examples.source(folder / "other", text=examples.TEXT.swapcase())
    ctx = context(examples.TEACHER, fdl.build(other).load())
    with pytest.raises(UserError, match=r"^start: another tokenizer than the data's"):
        starts.Run(workdir=run).load(ctx)


def test_the_step_that_a_run_began_from_is_the_one_it_begins_from_again(run, dataset):
    began = {"source": {"path": run, "step": 1, "digest": ""}}
    student = examples.TEACHER
    loaded = starts.Run(workdir=run).load(context(student, dataset, began=began))
    assert loaded.describe()["source"]["step"] == 1
    gone = {"source": {**began["source"], "step": 9}}  # the run has gone on since
    with pytest.raises(UserError, match="no checkpoint of step 9: 1"):
        starts.Run(workdir=run).load(context(student, dataset, began=gone))


def test_a_start_that_changed_is_refused_with_what_differs(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.began_from() is None
    workdir.record_weights({"source": {"path": "a", "digest": "1"}})
    workdir.record_weights({"source": {"path": "a", "digest": "1"}})
    with pytest.raises(UserError, match=r"the start changed since[^$]*source.digest"):
        workdir.record_weights({"source": {"path": "a", "digest": "2"}})


def test_the_best_step_is_the_one_that_the_run_kept(run, dataset, monkeypatch):
    with pytest.raises(UserError, match=r"start: .*no best checkpoint"):
        starts.Run(workdir=run, step="best").load(context(examples.TEACHER, dataset))
    monkeypatch.setattr(choice, "best_step", lambda _: 1)
    best = starts.Run(workdir=run, step="best")
    loaded = best.load(context(examples.TEACHER, dataset))
    assert loaded.describe()["source"]["step"] == 1


# Whole runs


def abstract(experiment):
    """The state of an experiment on a mesh of eight."""
    return experiment.prepare(runtime.Runtime(mesh=runtime.Mesh(data=8))).step.state


def train(path, experiment):
    path.mkdir(exist_ok=True)
    config = runtime.Runtime(mesh=runtime.Mesh(data=8))
    loop.train(experiment.prepare(config), Workdir(path.absolute()))


@pytest.fixture(scope="module")
def short(folder, corpus):
    experiment = examples.experiment(corpus, None, terms=CE)
    train(folder / "short", experiment)
    return folder / "short", experiment


@pytest.mark.slow
def test_a_longer_run_is_the_run_that_would_have_been_as_long(
    folder, corpus, dataset, short
):
    path, experiment = short
    described = {"train_data": dataset.describe()}
    assert json.loads((path / "data.json").read_text()) == described
    longer = dataclasses.replace(experiment, num_steps=4)
    train(folder / "four", longer)
    on = dataclasses.replace(longer, start=starts.Continued(workdir=str(path)))
    train(folder / "longer", on)
    one, other = (
        Checkpoints(folder / name / "checkpoints", keep=1).restore(4, abstract(on))
        for name in ("four", "longer")
    )
    assert_bits(one, other)


@pytest.mark.slow
def test_a_run_begins_again_from_the_same_weights_or_is_refused(
    folder, corpus, dataset
):
    student = examples.TEACHER
    origin = examples.write_run(folder / "origin", dataset, student=student)
    experiment = examples.experiment(
        corpus, None, terms=CE, student=student, start=starts.Run(workdir=str(origin))
    )
    path = folder / "begun"
    train(path, experiment)
    began = json.loads((path / "start.json").read_text())
    assert began["source"]["step"] == 1
    assert set(began["parameters"].values()) == {"loaded"}
    # Without a checkpoint of its own it begins again, from the same step or not at all.
    shutil.rmtree(path / "checkpoints")
    assert not opening.has_checkpoints(path)
    train(path, experiment)
    assert opening.has_checkpoints(path)
    shutil.rmtree(path / "checkpoints")
    shutil.rmtree(origin)
    examples.write_run(origin, dataset, student=student, seed=2)
    with pytest.raises(UserError, match=r"the start changed since[^$]*source.digest"):
        train(path, experiment)


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_look_at_its_start(folder, corpus, dataset):
    path = folder / "lone"
    origin = examples.write_run(folder / "gone", dataset, student=examples.STUDENT)
    begin = examples.experiment(
        corpus, None, terms=CE, start=starts.Run(workdir=str(origin))
    )
    train(path, begin)
    shutil.rmtree(origin)
    train(path, dataclasses.replace(begin, num_steps=3))
