"""Models over data that is cut to the tokens that it uses."""

import fiddle as fdl
import jax
import numpy as np
import pytest

from runner import data, starts
from runner.errors import UserError
from runner.teachers import OnlineTeacher
from runner.weights import identity
from runner.weights import opening as weights_opening
from runner.weights.some_tokens import SomeTokens
from tests.runner.starts.contexts import context, student_of
from tests.runner.teachers import examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("some_tokens")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


def cut(corpus, file):
    """The same data, with the tokens of one file."""
    one = fdl.Config(data.TextFiles, files=[file])
    used = fdl.Config(data.UsedTokens, tokenizer=corpus.tokenizer, documents=one)
    return fdl.copy_with(corpus, documents=one, tokenizer=used)


@pytest.fixture(scope="module")
def small(folder, corpus):
    return cut(corpus, str(folder / "text" / "a.txt"))


@pytest.fixture(scope="module")
def dataset(small):
    return fdl.build(small).load()


@pytest.fixture(scope="module")
def run(folder, corpus):
    return str(examples.write_run(folder / "run", fdl.build(corpus).load()))


def test_rows_of_embedding_and_head_are_those_of_the_tokens_that_stay(run, dataset):
    ids = dataset.vocabulary.cut.ids
    assert len(ids) < examples.VOCABULARY
    student = fdl.copy_with(examples.TEACHER, vocab_size=len(ids))
    loaded = starts.Run(workdir=run).load(context(student, dataset))
    whole = weights_opening.open_weights(run).tensors()
    for path, array in student_of(loaded.state()).items():
        wanted = whole[path].read()
        if path in ("embedding", "output"):
            wanted = wanted[ids]
        np.testing.assert_array_equal(array, wanted, err_msg=path)
    outcomes = loaded.describe()["parameters"]
    assert {p for p, x in outcomes.items() if x == "cut"} == {"embedding", "output"}


def test_a_student_of_another_number_of_tokens_is_refused(run, dataset):
    ctx = context(examples.TEACHER, dataset)
    with pytest.raises(UserError, match=r"embedding is \[300, 24\] in the student"):
        starts.Run(workdir=run).load(ctx)


def test_weights_speak_all_of_their_tokens_or_those_of_one_cut(
    folder, corpus, run, dataset
):
    weights = weights_opening.open_weights(run)
    whole = fdl.build(corpus).load()
    assert identity.speaking(weights, whole.vocabulary, cache="") is weights
    some = identity.speaking(weights, dataset.vocabulary, cache="")
    assert isinstance(some, SomeTokens) and some.digest != weights.digest
    some.check_vocabulary(dataset.vocabulary, cache="")
    other = fdl.build(cut(corpus, str(folder / "text" / "b.txt"))).load()
    for vocabulary in (other.vocabulary, whole.vocabulary):
        with pytest.raises(UserError, match="cut to the tokens of other data"):
            some.check_vocabulary(vocabulary, cache="")
    # What learnt from such data speaks its tokens as they are.
    student = fdl.copy_with(examples.TEACHER, vocab_size=dataset.vocabulary.size)
    pupil = examples.write_run(folder / "pupil", dataset, student=student)
    weights = weights_opening.open_weights(str(pupil))
    assert identity.speaking(weights, dataset.vocabulary, cache="") is weights
    with pytest.raises(UserError, match="another tokenizer than the data's"):
        identity.speaking(weights, other.vocabulary, cache="")


@pytest.mark.slow
def test_a_teacher_gives_its_distribution_over_the_tokens_that_stay(
    run, corpus, small, dataset
):
    """Whole experiments: gradients need the teacher's logits of these columns alone."""
    student = fdl.copy_with(examples.STUDENT, vocab_size=dataset.vocabulary.size)
    (_, total, terms), _, _ = examples.gradients(
        examples.experiment(small, OnlineTeacher(checkpoint=run), student=student)
    )
    assert np.isfinite(total)
    trunk = OnlineTeacher(checkpoint=run)
    loaded = trunk.load(examples.setting(dataset.vocabulary))
    whole = trunk.load(examples.setting(fdl.build(corpus).load().vocabulary))
    rows = dataset.rows(np.arange(4))
    ids = dataset.vocabulary.cut.ids
    logits = []
    for teacher, tokens in ((loaded, rows["tokens"]), (whole, ids[rows["tokens"]])):
        arrays = teacher.read()
        model = teacher.make(arrays["params"], arrays["variables"])
        batch = {n: jax.numpy.asarray(x) for n, x in rows.items()}
        batch["tokens"] = jax.numpy.asarray(tokens, "int32")
        logits.append(np.asarray(model.head(model.trunk(batch).hidden)))
    np.testing.assert_allclose(logits[0], logits[1][..., ids], atol=1e-5)
    assert "kd" in terms


@pytest.mark.slow
def test_a_start_from_the_teacher_is_cut_in_tokens_and_layers(run, dataset):
    student = fdl.copy_with(
        examples.TEACHER, vocab_size=dataset.vocabulary.size, num_layers=1
    )
    ctx = context(student, dataset, teacher=OnlineTeacher(checkpoint=run))
    loaded = starts.FromTeacher(layers="best", rows=4).load(ctx)
    assert loaded.describe()["parameters"]["embedding"] == "cut"
    assert student_of(loaded.state())["embedding"].shape[0] == dataset.vocabulary.size
