"""A model as the teacher: the gradient of the textbook, on every mesh and cut."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses
from losses import LossTerm
from runner import runtime
from runner.dry_run import layout
from runner.errors import UserError
from runner.head import flops
from runner.teachers import OnlineTeacher
from runner.teachers.model import LoadedModel
from runner.weights import opening
from tests.cases import cases
from tests.heads import in_blocks, in_tiles, largest_array
from tests.runner.teachers import examples
from tests.runner.teachers.examples import VOCABULARY, experiment, gradients
from tests.runner.teachers.textbook import (
    assert_same,
    expected,
    logits_alone,
    teacher_logits,
)

CUTS = {
    "8": (runtime.Mesh(data=8), {"head": in_blocks(5, VOCABULARY, planes=2)}),
    "4x2, microbatches": (runtime.Mesh(data=2, fsdp=2, tensor=2), {"microbatches": 2}),
    "8, tiles": (runtime.Mesh(data=8), {"head": in_tiles(7)}),
    "4x2, tiles": (runtime.Mesh(data=4, tensor=2), {"head": in_tiles(11)}),
}
BLOCKS = in_blocks(7, VOCABULARY, planes=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


@pytest.fixture(scope="module")
def run(folder, corpus):
    """A trained teacher."""
    return str(examples.write_run(folder / "run-0", fdl.build(corpus).load(), seed=0))


@pytest.mark.parametrize(("mesh", "cuts"), cases(CUTS, fast=()))
def test_the_gradient_is_that_of_the_textbook(corpus, run, mesh, cuts):
    teacher = OnlineTeacher(checkpoint=run)
    (params, total, _), batch, ready = gradients(
        experiment(corpus, teacher), mesh=mesh, **cuts
    )
    assert_same(
        (params, total), expected(ready, batch, teacher_logits(run, batch, ready))
    )


def test_the_weights_are_arguments_that_are_never_donated(corpus, run):
    ready = examples.ready(experiment(corpus, OnlineTeacher(checkpoint=run)))
    leaves = jax.tree.leaves(ready.initial_state())
    before = jax.device_get(ready.step.frozen)
    with ready.batches(start=0) as batches:
        for _ in range(2):
            leaves, _ = ready.step(leaves, next(batches))
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(ready.step.frozen), before
    )
    teacher_size = sum(x.size for x in jax.tree.leaves(ready.step.frozen))
    state = ready.initial_state()
    assert sum(x.size for x in jax.tree.leaves(state.params)) < teacher_size
    counts = {x.size for x in jax.tree.leaves(state.opt_state)}
    assert counts <= {1, *(x.size for x in jax.tree.leaves(state.params))}


def test_the_weights_are_sharded_like_the_students(corpus, run):
    mesh = runtime.Mesh(data=2, fsdp=2, tensor=2)
    distilled = experiment(corpus, OnlineTeacher(checkpoint=run))
    head = examples.ready(distilled, mesh=mesh).step.frozen["params"]["output"]
    assert head.sharding.shard_shape(head.shape) == (150, 12)


def dtypes(tree):
    return {str(x.dtype) for x in jax.tree.leaves(tree)}


def test_a_teacher_keeps_its_own_dtype(corpus, run):
    teacher = OnlineTeacher(checkpoint=run, dtype="bfloat16")
    ready = examples.ready(experiment(corpus, teacher))
    assert dtypes(ready.step.frozen) == {"bfloat16"}
    assert dtypes(ready.initial_state().params) == {"float32"}


def test_no_array_of_tokens_by_vocabulary_exists(corpus, run):
    ready = examples.ready(
        experiment(corpus, OnlineTeacher(checkpoint=run)),
        mesh=runtime.Mesh(data=1, tensor=8),
        head=in_blocks(7, VOCABULARY, planes=2),
    )
    jaxpr = jax.make_jaxpr(ready.step.compiled)(*ready.abstract_arguments()).jaxpr
    weights = 24 * VOCABULARY
    assert weights < 8 * 12 * VOCABULARY
    assert largest_array(jaxpr) == weights


def test_the_forward_pass_runs_once_a_step(corpus, run):
    """What a step with a teacher costs more is one forward pass, head included."""
    one_device = runtime.Mesh(data=1, tensor=8)
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy())]
    plain = examples.ready(
        experiment(corpus, None, terms=terms), mesh=one_device, head=BLOCKS
    )
    distilled = examples.ready(
        experiment(corpus, OnlineTeacher(checkpoint=run)),
        mesh=one_device,
        head=BLOCKS,
    )
    frozen = distilled.step.teacher.abstract
    assert isinstance(distilled.step.teacher, LoadedModel)
    model = distilled.step.teacher.make
    # 8 rows of 12 tokens are 14 blocks of 7: two tokens are padding.
    tokens, padded = 8 * 12, 14 * 7

    def trunk(frozen, batch):
        return model(frozen["params"], frozen["variables"]).trunk(batch).hidden

    forward = flops.matmul_flops(trunk, frozen, distilled.abstract_batch())
    head = 2 * padded * 24 * examples.VOCABULARY
    assert distilled.flops_per_step() - plain.flops_per_step() == forward + head
    assert tokens < padded


def test_the_dry_run_reports_the_memory_of_a_teacher(corpus, run):
    ready = examples.ready(experiment(corpus, OnlineTeacher(checkpoint=run)))
    report = "\n".join(layout.parameters(ready))
    assert "online teacher: 28,344 parameters, 113kB per device" in report


class HiddenMatch(losses.Loss):
    """Reads an intermediate of both sides."""

    needs = frozenset({"hidden/0", "teacher/hidden/1"})

    def __call__(self, outputs):
        assert outputs.teacher.logits is None
        theirs = outputs.teacher.intermediates["hidden/1"]
        ours = outputs.intermediates["hidden/0"]
        return jnp.square(jnp.mean(ours, -1) - jnp.mean(theirs, -1))


def captured(model, rows, path):
    """One intermediate of a model, on the host."""
    trunk = jax.jit(lambda model, rows: model.trunk(rows, capture=frozenset({path})))
    return trunk(model, rows).intermediates[path]


def test_a_loss_may_read_the_teachers_intermediates(corpus, run):
    teacher = OnlineTeacher(checkpoint=run)
    terms = [LossTerm(name="match", loss=HiddenMatch())]
    (_, total, _), batch, ready = gradients(experiment(corpus, teacher, terms=terms))
    state, rows = jax.device_get(ready.initial_state()), jax.device_get(batch)
    student = ready.modules.student(state.params["student"], state.variables["student"])
    ours = captured(student, rows, "hidden/0")
    frozen = jax.device_get(ready.step.frozen)
    assert isinstance(ready.step.teacher, LoadedModel)
    model = ready.step.teacher.make(frozen["params"], frozen["variables"])
    theirs = captured(model, rows, "hidden/1")
    gap = np.mean(ours, -1) - np.mean(theirs, -1)
    mean = np.sum(np.square(gap) * rows["mask"]) / rows["mask"].sum()
    np.testing.assert_allclose(total, mean, rtol=1e-5)


@pytest.fixture(scope="module")
def padded(folder, corpus):
    """A trained teacher of more outputs than there are tokens."""
    student = fdl.copy_with(examples.TEACHER, vocab_size=320)
    dataset = fdl.build(corpus).load()
    return str(examples.write_run(folder / "padded", dataset, student=student))


def test_padding_of_a_vocabulary_is_cut_off(corpus, padded):
    teacher = OnlineTeacher(checkpoint=padded)
    loaded = teacher.load(examples.setting(fdl.build(corpus).load().vocabulary))
    arrays = jax.device_get(loaded.read())
    rows = fdl.build(corpus).load().rows(np.arange(8))

    @jax.jit
    def whole(arrays, rows):
        model = loaded.make(arrays["params"], arrays["variables"])
        return model.head(model.trunk(rows).hidden)

    logits = np.asarray(whole(arrays, rows))
    assert logits.shape[-1] == 320
    np.testing.assert_allclose(
        logits_alone(teacher, corpus), logits[..., :VOCABULARY], rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow  # `test_padding_of_a_vocabulary_is_cut_off` has no step
def test_padding_of_the_teachers_vocabulary_is_cut_off(corpus, padded):
    (params, total, _), batch, ready = gradients(
        experiment(corpus, OnlineTeacher(checkpoint=padded))
    )
    logits = teacher_logits(padded, batch, ready)
    assert logits.shape[-1] == 320
    assert_same(
        (params, total), expected(ready, batch, logits[..., : examples.VOCABULARY])
    )


def test_another_tokenizer_of_the_same_size_is_refused_by_its_tokens(folder, run):
    other = examples.source(folder / "other", text=examples.TEXT.swapcase())
    with pytest.raises(UserError, match="another tokenizer") as refused:
        examples.ready(experiment(other, OnlineTeacher(checkpoint=run)))
    assert "there, " in str(refused.value) and "token 2" in str(refused.value)


def test_a_teacher_with_too_few_outputs_is_refused(folder, corpus):
    small = fdl.copy_with(examples.TEACHER, vocab_size=200)
    run = examples.write_run(folder / "small", fdl.build(corpus).load(), student=small)
    with pytest.raises(UserError, match="200 outputs for a tokenizer of 300 tokens"):
        examples.ready(experiment(corpus, OnlineTeacher(checkpoint=str(run))))


def test_settings_are_for_published_models_only(run):
    with pytest.raises(UserError, match=r"settings are of published .*; .*run-0"):
        opening.open_weights(run, {"hidden_act": "gelu"})


def test_a_path_the_teacher_does_not_offer_is_named(corpus, run):
    class Wrong(HiddenMatch):
        needs = frozenset({"teacher/hidden/7"})

    terms = [LossTerm(name="match", loss=Wrong())]
    distilled = experiment(corpus, OnlineTeacher(checkpoint=run), terms=terms)
    with pytest.raises(UserError, match="'teacher/hidden/7', which the teacher does"):
        examples.ready(distilled)
