"""Heads in two factors, begun from a head of one matrix."""

import functools

import fiddle as fdl
import numpy as np
import pytest
from flax import nnx

import models
from runner import starts
from runner.errors import UserError
from runner.weights import factored_head
from runner.weights import opening as weights_opening
from runner.weights.adapters import Merged
from runner.weights.tensors import StoredTensor
from tests.runner.starts.contexts import context, student_of
from tests.runner.teachers import examples

RANK = 5


def best_of_rank(table, rank):
    u, s, v = np.linalg.svd(np.asarray(table, np.float64), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


@pytest.mark.parametrize(("rows", "rank"), [(9000, 3), (40, 6), (4, 6)])
def test_factors_are_the_best_of_their_rank(rows, rank):
    """Of more rows than are read at once, of full rank, and of less than full."""
    table = np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)
    factor, output = factored_head.factors(table, rank)
    assert (factor.shape, output.shape) == ((6, rank), (rows, rank))
    np.testing.assert_allclose(output @ factor.T, best_of_rank(table, rank), atol=2e-5)
    lengths = [np.linalg.norm(x, axis=0)[: min(rows, rank)] for x in (factor, output)]
    np.testing.assert_allclose(*lengths, rtol=2e-4)  # balanced


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return fdl.build(examples.source(tmp_path_factory.mktemp("text"))).load()


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset):
    return str(examples.write_run(tmp_path_factory.mktemp("run") / "run", dataset))


def loaded(run, dataset, start=starts.Run, **fields):
    ctx = context(fdl.copy_with(examples.TEACHER, **fields), dataset)
    return start(workdir=run).load(ctx)


@pytest.mark.slow  # the factors themselves are held above
def test_a_student_of_two_factors_starts_from_a_head_of_one(run, dataset):
    start = loaded(run, dataset, head_rank=RANK)
    arrays = student_of(start.state())
    table = weights_opening.open_weights(run).tensors()["output"].read()
    product = arrays["output"] @ arrays["head_factor"].T
    np.testing.assert_allclose(product, best_of_rank(table, RANK), atol=1e-5)
    outcomes = start.describe()["parameters"]
    cut = {path for path, outcome in outcomes.items() if outcome == "cut"}
    assert cut == {"output", "head_factor"}


def test_factors_of_more_than_the_width_of_the_head_are_refused(run, dataset):
    with pytest.raises(UserError, match="head_rank is 25, more than the 24 of a head"):
        loaded(run, dataset, head_rank=25)
    with pytest.raises(ValueError, match="head_rank is of a head of its own"):
        models.Transformer(
            vocab_size=8, dim=4, head_rank=2, tie_head=True, rngs=nnx.Rngs(0)
        )


def test_two_factors_leave_as_one_matrix():
    draw = np.random.default_rng(0).normal
    arrays = {"head_factor": draw(size=(6, 2)), "output": draw(size=(9, 2))}
    stored = {
        path: StoredTensor(x.shape, np.dtype(np.float32), lambda x=x: x.astype("f4"))
        for path, x in arrays.items()
    }
    whole = factored_head.merged(Merged(functools.partial(models.Transformer), stored))
    assert whole.tensors.keys() == {"output"}
    np.testing.assert_allclose(
        whole.tensors["output"].read(),
        arrays["output"] @ arrays["head_factor"].T,
        rtol=1e-5,
        atol=1e-6,
    )
    assert whole.model.keywords["head_rank"] is None


@pytest.mark.slow
def test_gradients_of_a_head_in_two_factors_are_those_of_autodiff(tmp_path):
    """By tiles of the vocabulary and by whole rows, against the loss in one piece."""
    import jax
    import jax.numpy as jnp

    from runner import runtime
    from tests.runner.starts.contexts import CE

    corpus = examples.source(tmp_path / "text")
    student = fdl.copy_with(examples.STUDENT, tie_head=False, head_rank=RANK)
    experiment = examples.experiment(corpus, None, terms=CE, student=student)
    (found, _, _), batch, setup = examples.gradients(
        experiment, head=runtime.Head(memory_budget=2**14)
    )
    params = setup.initial_state().params["student"]

    def loss(params):
        model = setup.modules.student(params, {})
        rows = {name: jnp.asarray(x) for name, x in batch.items()}
        logits = model.head(model.trunk(rows).hidden)
        log_q = jax.nn.log_softmax(logits)
        nats = -jnp.take_along_axis(log_q, rows["targets"][..., None], -1)[..., 0]
        return jnp.mean(nats, where=rows["mask"])

    wanted = jax.grad(loss)(params)
    for name in ("output", "head_factor"):
        np.testing.assert_allclose(found["student"][name], wanted[name], atol=2e-6)
