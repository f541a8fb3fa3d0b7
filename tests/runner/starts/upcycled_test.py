"""Mixtures that start as copies of a dense model."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from runner import starts
from runner.errors import UserError
from runner.weights import opening as weights_opening
from tests.runner.starts.contexts import context, student_of
from tests.runner.teachers import examples

EXPERTS = 4
DENSE = fdl.copy_with(examples.STUDENT, mlp=fdl.Partial(models.GatedMLP, hidden_dim=20))


def mixture(**fields):
    """The dense model with four experts in place of its feed-forward layers."""
    mlp = fdl.Partial(
        models.MoE,
        num_experts=EXPERTS,
        experts_per_token=2,
        **{"renormalize": True, "hidden_dim": 20, **fields},
    )
    return fdl.copy_with(DENSE, mlp=mlp)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return fdl.build(examples.source(tmp_path_factory.mktemp("text"))).load()


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp("run") / "run"
    return str(examples.write_run(path, dataset, student=DENSE))


def load(run, dataset, student, **start):
    ctx = context(student, dataset)
    node = start.get("start", starts.Run(workdir=run))
    return ctx, starts.Upcycled(start=node).load(ctx)


@pytest.mark.slow  # compiles fresh parameters; the logits below hold them all
@pytest.mark.parametrize("layers", ["separate", "stacked"])
def test_every_expert_is_the_dense_layer_and_routers_are_fresh(run, dataset, layers):
    student = fdl.copy_with(mixture(), layers=layers)
    ctx, loaded = load(run, dataset, student)
    dense = weights_opening.open_weights(run).tensors()
    arrays = student_of(loaded.state())
    fresh = student_of(ctx.modules.create(0, ctx.mesh, ctx.rules))
    for path, array in arrays.items():
        if path.endswith("mlp/router"):
            wanted = fresh[path]
        else:
            wanted = dense[path.replace("stacked", "0")].read()
        np.testing.assert_array_equal(
            array, np.broadcast_to(wanted, array.shape), err_msg=path
        )
    outcomes = loaded.describe()["parameters"]
    assert [p for p, x in outcomes.items() if x == "fresh"] == [
        path for path in arrays if path.endswith("router")
    ]
    assert loaded.describe()["source"]["experts"] == EXPERTS


def logits(ctx, state, dataset):
    rows = {name: jnp.asarray(x) for name, x in dataset.rows(np.arange(2)).items()}
    model = ctx.modules.student(*jax.device_get((state.params["student"], {})))
    return np.asarray(model.head(model.trunk(rows).hidden))


@pytest.mark.slow
def test_the_first_logits_are_those_of_the_dense_model(run, dataset):
    """Where the gates of a token add up to 1 (arXiv:2212.05055, section 3)."""
    ctx = context(DENSE, dataset)
    wanted = logits(ctx, starts.Run(workdir=run).load(ctx).state(), dataset)
    ctx, loaded = load(run, dataset, mixture())
    np.testing.assert_allclose(logits(ctx, loaded.state(), dataset), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (DENSE, "the student has no experts: mlp=models.MoE"),
        (mixture(num_shared_experts=1), "nothing for blocks/0/mlp/shared/"),
        (mixture(hidden_dim=24), r"mlp/down is \[4, 24, 16\] in the student, \[4, 20"),
    ],
)
def test_what_a_dense_model_cannot_start_is_refused(run, dataset, student, said):
    with pytest.raises(UserError, match=f"^start: .*{said}"):
        load(run, dataset, student)


@pytest.mark.slow  # of another run
def test_a_mixture_is_not_upcycled_again(tmp_path, dataset):
    path = tmp_path / "mixture"
    run = str(examples.write_run(path, dataset, student=mixture()))
    with pytest.raises(UserError, match="has experts already: it can be the start"):
        load(run, dataset, mixture())
