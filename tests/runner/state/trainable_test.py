"""Students of which a part is trained."""

import dataclasses

import fiddle as fdl
import jax
import numpy as np
import pytest

import losses
from losses import LossTerm
from runner import runtime
from runner.checkpoint import tree_paths
from runner.dry_run import layout
from runner.errors import UserError
from runner.head import flops
from runner.state.path_patterns import chosen
from runner.teachers import OnlineTeacher
from runner.train import loop
from runner.weights.run import RunWeights
from runner.workdir.workdir import Workdir
from tests.heads import in_blocks
from tests.runner.teachers import examples
from tests.runner.teachers.examples import VOCABULARY, gradients

CE = [LossTerm(name="ce", loss=losses.CrossEntropy())]
STUDENT = fdl.copy_with(examples.STUDENT, tie_head=False)
MLP, HEADLESS = "blocks/*/mlp/*", ["!output", "!embedding"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trainable")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


def experiment(corpus, trainable, **fields):
    fields = {"terms": CE, "student": STUDENT, **fields}
    return examples.experiment(corpus, None, trainable=trainable, **fields)


CUTS = {
    "blocks": {"head": in_blocks(5, VOCABULARY)},
    "4x2": {"mesh": runtime.Mesh(data=2, fsdp=2, tensor=2), "microbatches": 2},
}


@pytest.fixture(scope="module")
def all_trained(corpus):
    (params, total, _), _, _ = gradients(experiment(corpus, None), **CUTS["blocks"])
    return tree_paths.by_path(params["student"]), total


@pytest.mark.parametrize(
    ("trainable", "cut"),
    [
        (MLP, "blocks"),
        pytest.param(HEADLESS, "blocks", marks=pytest.mark.slow),
        pytest.param("output", "blocks", marks=pytest.mark.slow),
        pytest.param(MLP, "4x2", marks=pytest.mark.slow),
    ],
)
def test_what_is_trained_has_the_gradient_that_it_has_among_all(
    corpus, all_trained, trainable, cut
):
    (params, total, _), _, setup = gradients(experiment(corpus, trainable), **CUTS[cut])
    whole, whole_total = all_trained
    np.testing.assert_allclose(total, whole_total, rtol=1e-6)
    trained = tree_paths.by_path(params["student"])
    assert trained.keys() == chosen(whole, trainable)
    for path, gradient in trained.items():
        np.testing.assert_allclose(gradient, whole[path], rtol=2e-5, atol=2e-6)
    frozen = setup.modules.frozen(setup.step.state.variables)
    assert frozen.keys() == whole.keys() - trained.keys()


def test_frozen_parameters_take_no_gradient_and_no_state(corpus):
    """By what the step multiplies and the state holds."""
    config = runtime.Runtime(mesh=runtime.Mesh(data=8))
    deep = fdl.copy_with(STUDENT, num_layers=4, dim=32)
    costs, figures = {}, {}
    for trainable in (None, "blocks/3/*"):
        setup = experiment(corpus, trainable, student=deep).prepare(config)
        arguments = setup.abstract_arguments()
        costs[trainable] = flops.matmul_flops(setup.step.compiled, *arguments)
        params, optimizer = (
            sum(x.size for x in jax.tree.leaves(tree))
            for tree in (setup.step.state.params, setup.step.state.opt_state)
        )
        figures[trainable] = params
        assert optimizer < 2 * params + 9  # two moments of each, and counts
    # Forward is a third of all: of four layers and a head, the last is differentiated.
    assert figures["blocks/3/*"] < 0.25 * figures[None]
    assert costs["blocks/3/*"] < 0.65 * costs[None]
    lines = list(layout.parameters(setup))
    count = figures[None] - figures["blocks/3/*"]
    assert f"{count:,} frozen parameters, " in lines[-1]


@pytest.mark.slow
def test_a_run_leaves_what_is_frozen_alone_and_teaches_whole(folder, corpus):
    path = folder / "run"
    path.mkdir()
    whole = experiment(corpus, MLP)
    setup = whole.prepare(runtime.Runtime(mesh=runtime.Mesh(data=8)))
    before = jax.device_get(setup.initial_state())
    loop.train(setup, Workdir(path))
    tensors = RunWeights(str(path)).tensors()
    frozen = setup.modules.frozen(before.variables)
    for name, x in frozen.items():
        np.testing.assert_array_equal(tensors[name].read(), x)
    for name, x in tree_paths.by_path(before.params["student"]).items():
        assert np.any(tensors[name].read() != x), name
    (path / "config.json").write_text("{}")
    teacher = OnlineTeacher(checkpoint=str(path), model=fdl.build(STUDENT))
    taught = dataclasses.replace(whole, teacher=teacher, losses=examples.kd())
    read = examples.ready(taught).step.frozen["params"]
    for name, x in tree_paths.by_path(read).items():
        np.testing.assert_array_equal(x, tensors[name].read())


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        ("blocks/*", {"blocks/0/up", "blocks/1/up"}),
        (["*/1/*", "head"], {"blocks/1/up", "head"}),
        (["!head"], {"blocks/0/up", "blocks/1/up"}),
        (["blocks/*", "!blocks/0/*"], {"blocks/1/up"}),
    ],
)
def test_patterns_choose_paths(patterns, paths):
    assert chosen(["blocks/0/up", "blocks/1/up", "head"], patterns) == paths


@pytest.mark.parametrize(
    ("trainable", "said"),
    [
        ("block/*", r"trainable: no parameter matches 'block/\*'; did you mean"),
        (["blocks/*", "!bias"], "trainable: no parameter matches '!bias'"),
        ("!*", "trainable: '!\\*' leaves nothing to train"),
    ],
)
def test_patterns_that_choose_nothing_are_refused(corpus, trainable, said):
    with pytest.raises(UserError, match=said):
        experiment(corpus, trainable).check()
