"""Models as teachers: the gradient of the textbook, whatever the mesh and the cuts."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from runner import runtime
from runner.dry_run import layout
from runner.errors import UserError
from runner.graph import to_json
from runner.head import flops
from runner.teachers import (
    EMATeacher,
    EnsembleTeacher,
    FusedTeacher,
    OnlineTeacher,
)
from runner.teachers.model import LoadedModel
from runner.weights import opening
from tests.cases import cases
from tests.heads import in_blocks, in_tiles, largest_array
from tests.models.pretrained import inputs
from tests.runner.teachers import examples
from tests.runner.teachers.examples import VOCABULARY, experiment, gradients

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
def runs(folder, corpus):
    """Three trained teachers."""
    dataset = fdl.build(corpus).load()
    return [
        str(examples.write_run(folder / f"run-{seed}", dataset, seed=seed))
        for seed in range(3)
    ]


def teacher_logits(run, batch, ready):
    """Of the whole batch, by the model alone, on the host."""
    setting = examples.setting(ready.dataset.vocabulary)
    module = OnlineTeacher(checkpoint=run).load(setting)
    fixed = jax.device_get(module.read())

    @jax.jit
    def logits(fixed, rows):
        model = module.make(fixed["params"], fixed["variables"])
        return model.head(model.trunk(rows).hidden)

    return np.asarray(logits(fixed, jax.device_get(batch)), np.float64)


def expected(ready, batch, logits, *, temperature=1.0):
    """Value and gradient of `0.5 CE + KL(p || q)` by plain autodiff of the whole."""
    state = jax.device_get(ready.initial_state())
    rows = jax.device_get(batch)
    log_p = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32) / temperature)
    mask = rows["mask"].astype(np.float32)

    def objective(params):
        student = ready.modules.student(params["student"], state.variables["student"])
        own = student.head(student.trunk(rows).hidden)
        ce = optax.softmax_cross_entropy_with_integer_labels(own, rows["targets"])
        log_q = jax.nn.log_softmax(own / temperature)
        kl = optax.losses.kl_divergence_with_log_targets(log_q, log_p)
        return jnp.sum((0.5 * ce + kl) * mask) / jnp.sum(mask)

    total, params = jax.jit(jax.value_and_grad(objective))(state.params)
    return params, total


def assert_same(found, wanted, rtol=2e-5, atol=2e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        found,
        wanted,
    )


@pytest.mark.parametrize(("mesh", "cuts"), cases(CUTS, fast=()))
def test_the_gradient_is_that_of_the_textbook(corpus, runs, mesh, cuts):
    # dear: makes the three teachers that the other tests share.
    teacher = OnlineTeacher(checkpoint=runs[0])
    (params, total, _), batch, ready = gradients(
        experiment(corpus, teacher), mesh=mesh, **cuts
    )
    assert_same(
        (params, total), expected(ready, batch, teacher_logits(runs[0], batch, ready))
    )


def alone(teacher, corpus):
    """Logits of a teacher without a student or a step, float64, and rows of data."""
    dataset = fdl.build(corpus).load()
    loaded = teacher.load(examples.setting(dataset.vocabulary))
    rows = dataset.rows(np.arange(8))

    @jax.jit
    def logits(frozen, rows):
        trunk = loaded.trunk(frozen, {}, rows, capture=frozenset(), logits=True)
        return trunk.outputs(trunk.head_params, trunk.tokens, rows).logits

    return np.asarray(logits(jax.device_get(loaded.read()), rows), np.float64)


COMBINED = {
    "mean of probabilities": (
        lambda a, b, c: EnsembleTeacher(teachers=[a, b], weights=[3.0, 1.0]),
        lambda a, b, c: 0.75 * softmax(a) + 0.25 * softmax(b),
    ),
    "mean of logits": (
        lambda a, b, c: EnsembleTeacher(teachers=[a, b], average="logits"),
        lambda a, b, c: softmax((a + b) / 2),
    ),
    "fused": (
        lambda a, b, c: FusedTeacher(base=a, expert=b, antiexpert=c, scale=0.7),
        lambda a, b, c: softmax(a + 0.7 * (b - c)),
    ),
}


@pytest.fixture(scope="module")
def logits_of_members(corpus, runs):
    return [alone(OnlineTeacher(checkpoint=run), corpus) for run in runs]


@pytest.mark.parametrize(("make", "mixed"), COMBINED.values(), ids=COMBINED)
def test_teachers_combine_as_their_formula_says(
    corpus, runs, logits_of_members, make, mixed
):
    members = [OnlineTeacher(checkpoint=run) for run in runs]
    np.testing.assert_allclose(
        softmax(alone(make(*members), corpus)),
        mixed(*logits_of_members),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.slow  # `test_teachers_combine_as_their_formula_says` has no step
def test_a_mixture_is_the_mean_of_probabilities(corpus, runs):
    members = [OnlineTeacher(checkpoint=run) for run in runs[:2]]
    teacher = EnsembleTeacher(teachers=members, weights=[3.0, 1.0])
    (params, total, _), batch, ready = gradients(experiment(corpus, teacher))
    one, other = (teacher_logits(run, batch, ready) for run in runs[:2])
    mixed = np.log(0.75 * softmax(one) + 0.25 * softmax(other))
    assert_same((params, total), expected(ready, batch, mixed))


@pytest.mark.slow  # `test_teachers_combine_as_their_formula_says` has no step
def test_a_mean_of_logits_is_one(corpus, runs):
    members = [OnlineTeacher(checkpoint=run) for run in runs[:2]]
    teacher = EnsembleTeacher(teachers=members, average="logits")
    (params, total, _), batch, ready = gradients(experiment(corpus, teacher))
    one, other = (teacher_logits(run, batch, ready) for run in runs[:2])
    assert_same((params, total), expected(ready, batch, (one + other) / 2))


@pytest.mark.slow  # `test_teachers_combine_as_their_formula_says` has no step
def test_fused_teachers_add_what_the_expert_learnt(corpus, runs):
    base, expert, antiexpert = (OnlineTeacher(checkpoint=run) for run in runs)
    teacher = FusedTeacher(base=base, expert=expert, antiexpert=antiexpert, scale=0.7)
    (params, total, _), batch, ready = gradients(experiment(corpus, teacher))
    a, b, c = (teacher_logits(run, batch, ready) for run in runs)
    assert_same((params, total), expected(ready, batch, a + 0.7 * (b - c)))


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def test_the_weights_are_arguments_that_are_never_donated(corpus, runs):
    ready = examples.ready(experiment(corpus, OnlineTeacher(checkpoint=runs[0])))
    leaves = jax.tree.leaves(ready.initial_state())
    before = jax.device_get(ready.step.frozen)
    with ready.batches(start=0) as batches:
        for _ in range(2):
            leaves, _ = ready.step(leaves, next(batches))
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(ready.step.frozen), before
    )
    taught = sum(x.size for x in jax.tree.leaves(ready.step.frozen))
    state = ready.initial_state()
    assert sum(x.size for x in jax.tree.leaves(state.params)) < taught
    counts = {x.size for x in jax.tree.leaves(state.opt_state)}
    assert counts <= {1, *(x.size for x in jax.tree.leaves(state.params))}


def test_its_weights_are_sharded_like_a_students(corpus, runs):
    mesh = runtime.Mesh(data=2, fsdp=2, tensor=2)
    made = experiment(corpus, OnlineTeacher(checkpoint=runs[0]))
    head = examples.ready(made, mesh=mesh).step.frozen["params"]["output"]
    assert head.sharding.shard_shape(head.shape) == (150, 12)


def dtypes(tree):
    return {str(x.dtype) for x in jax.tree.leaves(tree)}


def test_it_keeps_its_own_dtype(corpus, runs):
    teacher = OnlineTeacher(checkpoint=runs[0], dtype="bfloat16")
    ready = examples.ready(experiment(corpus, teacher))
    assert dtypes(ready.step.frozen) == {"bfloat16"}
    assert dtypes(ready.initial_state().params) == {"float32"}


def test_no_array_of_tokens_by_vocabulary_exists(corpus, runs):
    ready = examples.ready(
        experiment(corpus, OnlineTeacher(checkpoint=runs[0])),
        mesh=runtime.Mesh(data=1, tensor=8),
        head=in_blocks(7, VOCABULARY, planes=2),
    )
    jaxpr = jax.make_jaxpr(ready.step.compiled)(*ready.abstract_arguments()).jaxpr
    weights = 24 * VOCABULARY
    assert weights < 8 * 12 * VOCABULARY
    assert largest_array(jaxpr) == weights


def test_its_forward_pass_runs_once_a_step(corpus, runs):
    """What a step with a teacher costs more is one forward pass, head included."""
    one_device = runtime.Mesh(data=1, tensor=8)
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy())]
    plain = examples.ready(
        experiment(corpus, None, terms=terms), mesh=one_device, head=BLOCKS
    )
    taught = examples.ready(
        experiment(corpus, OnlineTeacher(checkpoint=runs[0])),
        mesh=one_device,
        head=BLOCKS,
    )
    fixed = taught.step.teacher.abstract
    assert isinstance(taught.step.teacher, LoadedModel)
    model = taught.step.teacher.make
    # 8 rows of 12 tokens are 14 blocks of 7: two tokens are padding.
    tokens, padded = 8 * 12, 14 * 7

    def trunk(fixed, batch):
        return model(fixed["params"], fixed["variables"]).trunk(batch).hidden

    forward = flops.matmul_flops(trunk, fixed, taught.abstract_batch())
    head = 2 * padded * 24 * examples.VOCABULARY
    assert taught.flops_per_step() - plain.flops_per_step() == forward + head
    assert tokens < padded


def test_the_dry_run_says_what_a_teacher_takes(corpus, runs):
    ready = examples.ready(experiment(corpus, OnlineTeacher(checkpoint=runs[0])))
    said = "\n".join(layout.parameters(ready))
    assert "online teacher: 28,344 parameters, 113kB per device" in said


def test_an_average_starts_as_the_student_and_follows_it(corpus):
    ready = examples.ready(experiment(corpus, EMATeacher(decay=0.3)))
    state = ready.initial_state()
    leaves = jax.tree.leaves(state)
    average = jax.device_get(state.params["student"])
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(state.teacher["params"]),
        average,
    )
    with ready.batches(start=0) as batches:
        for step in range(1, 4):
            leaves, _ = ready.step(leaves, next(batches))
            state = ready.step.unflatten(leaves)
            decay = min(0.3, (1 + step) / (10 + step))
            kept = jax.tree.map(lambda old, d=decay: d * old, average)
            new = jax.device_get(state.params["student"])
            average = jax.tree.map(
                lambda old, new, d=decay: old + (1 - d) * new, kept, new
            )
            assert_same(jax.device_get(state.teacher["params"]), average)


def test_the_average_teaches_itself_nothing_at_first(corpus):
    (_, _, terms), _, _ = gradients(experiment(corpus, EMATeacher()))
    assert terms["kd"].total == pytest.approx(0.0, abs=1e-4)


def test_a_moving_teacher_may_be_a_member(corpus, runs):
    members = [OnlineTeacher(checkpoint=runs[0]), EMATeacher()]
    ready = examples.ready(experiment(corpus, EnsembleTeacher(teachers=members)))
    leaves = jax.tree.leaves(ready.initial_state())
    with ready.batches(start=0) as batches:
        leaves, metrics = ready.step(leaves, next(batches))
    state = ready.step.unflatten(leaves)
    assert not state.teacher["teachers[0]"]
    assert state.teacher["teachers[1]"]["params"].keys() == {
        "blocks",
        "embedding",
        "norm",
    }
    assert np.isfinite(metrics["learning/kd"].compute())


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


def test_a_loss_may_read_the_teachers_intermediates(corpus, runs):
    teacher = OnlineTeacher(checkpoint=runs[0])
    terms = [LossTerm(name="match", loss=HiddenMatch())]
    (_, total, _), batch, ready = gradients(experiment(corpus, teacher, terms=terms))
    state, rows = jax.device_get(ready.initial_state()), jax.device_get(batch)
    student = ready.modules.student(state.params["student"], state.variables["student"])
    ours = captured(student, rows, "hidden/0")
    fixed = jax.device_get(ready.step.frozen)
    assert isinstance(ready.step.teacher, LoadedModel)
    model = ready.step.teacher.make(fixed["params"], fixed["variables"])
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
        alone(teacher, corpus), logits[..., :VOCABULARY], rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow  # `test_padding_of_a_vocabulary_is_cut_off` has no step
def test_padding_of_the_teachers_vocabulary_is_cut_off(corpus, padded):
    run = padded
    (params, total, _), batch, ready = gradients(
        experiment(corpus, OnlineTeacher(checkpoint=run))
    )
    logits = teacher_logits(run, batch, ready)
    assert logits.shape[-1] == 320
    assert_same(
        (params, total), expected(ready, batch, logits[..., : examples.VOCABULARY])
    )


# Mistakes


def test_another_tokenizer_of_the_same_size_is_refused_by_its_tokens(folder, runs):
    other = examples.source(folder / "other", text=examples.TEXT.swapcase())
    with pytest.raises(UserError, match="another tokenizer") as refused:
        examples.ready(experiment(other, OnlineTeacher(checkpoint=runs[0])))
    assert "there, " in str(refused.value) and "token 2" in str(refused.value)


def test_a_teacher_with_too_few_outputs_is_refused(folder, corpus):
    small = fdl.copy_with(examples.TEACHER, vocab_size=200)
    run = examples.write_run(folder / "small", fdl.build(corpus).load(), student=small)
    with pytest.raises(UserError, match="200 outputs for a tokenizer of 300 tokens"):
        examples.ready(experiment(corpus, OnlineTeacher(checkpoint=str(run))))


def test_rows_longer_than_a_teacher_was_made_for_are_said(folder, corpus, runs):
    teacher = EnsembleTeacher(teachers=[OnlineTeacher(checkpoint=run) for run in runs])
    assert examples.ready(experiment(corpus, teacher)).cautions == ()
    longer = examples.source(folder / "text", length=16)
    cautions = examples.ready(experiment(longer, teacher)).cautions
    assert [text.split(",")[0] for text in cautions] == [
        f"teacher {run}: rows of 16 positions" for run in runs
    ]


def test_what_a_published_file_cannot_say_is_said(tmp_path):
    file = str(inputs.write("mistral", tmp_path))
    (caution,) = opening.open_weights(file).cautions(64)
    assert "read with sliding_window None, hidden_act 'silu', as llama.cpp" in caution
    settings = {"sliding_window": 3, "hidden_act": "silu"}
    told = opening.open_weights(file, settings)
    assert told.cautions(64) == ()
    (caution,) = told.cautions(65)
    assert "rows of 65 positions, more than the 64 it was made for" in caution
    assert told.digest != opening.open_weights(file).digest


def test_settings_are_of_published_models(runs):
    with pytest.raises(UserError, match=r"settings are of published .*; .*run-0"):
        opening.open_weights(runs[0], {"hidden_act": "gelu"})


def test_no_checkpoint_is_said_before_anything_is_built(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "nothing")):
        OnlineTeacher(checkpoint=str(tmp_path / "nothing")).check()


def test_a_term_without_its_teacher_is_named(corpus):
    with pytest.raises(UserError, match=r"losses.kd: ForwardKL needs a teacher"):
        experiment(corpus, None).check()


def test_a_path_the_teacher_does_not_offer_is_named(corpus, runs):
    class Wrong(HiddenMatch):
        needs = frozenset({"teacher/hidden/7"})

    terms = [LossTerm(name="match", loss=Wrong())]
    made = experiment(corpus, OnlineTeacher(checkpoint=runs[0]), terms=terms)
    with pytest.raises(UserError, match="'teacher/hidden/7', which the teacher does"):
        examples.ready(made)


@pytest.mark.parametrize(
    ("make", "said"),
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
def test_a_teacher_that_is_none_is_refused_at_construction(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_every_teacher_can_be_saved_in_a_graph(corpus):
    for node in [
        fdl.Config(OnlineTeacher, checkpoint="runs/x"),
        fdl.Config(EMATeacher),
        fdl.Config(EnsembleTeacher, teachers=[fdl.Config(EMATeacher)]),
    ]:
        assert to_json.from_json(to_json.to_json(node), "x") == node
