"""Students with adapters: what they begin from, what is trained, what they become."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import models
from models.adapters.low_rank import is_of
from runner import starts
from runner.checkpoint import tree_paths
from runner.errors import UserError
from runner.graph import build
from runner.head import flops
from runner.starts.weights_start import LoadedWeights, Weights, wanted
from runner.state.trainable import TrainModules
from runner.weights.run import RunWeights
from runner.weights.tensors import StoredTensor
from tests.runner.starts.contexts import CE, context, student_of
from tests.runner.teachers import examples

LORA = fdl.Partial(models.LoRA, model=examples.TEACHER, rank=2, targets="*/mlp/*")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def corpus(folder):
    return examples.source(folder / "text")


@pytest.fixture(scope="module")
def dataset(corpus):
    return fdl.build(corpus).load()


@pytest.fixture(scope="module")
def run(folder, dataset):
    return str(examples.write_run(folder / "run", dataset))


@pytest.fixture(scope="module")
def adapted(folder, dataset):
    """A run whose adapters are no longer zero."""

    def change(path, x):
        draw = np.random.default_rng(len(jax.tree_util.keystr(path)))
        return x + draw.normal(size=x.shape).astype(x.dtype)

    path = folder / "adapted"
    return str(examples.write_run(path, dataset, student=LORA, change=change))


def whole(state):
    params, variables = state.params["student"], state.variables["student"]
    trees = [tree_paths.by_path(jax.device_get(x)) for x in (params, variables)]
    return trees[0] | trees[1]


def test_adapters_alone_are_trained_unless_the_experiment_says_more(corpus):
    """By the state's arrays and by what the step multiplies."""
    student = fdl.copy_with(LORA, model=fdl.copy_with(examples.TEACHER, dim=48))
    costs = {}
    for name, fields in {
        "all": {"student": student.model},
        "adapters": {"student": student},
        "norms too": {"student": student, "trainable": ["*adapters*", "*norm*"]},
    }.items():
        setup = examples.ready(examples.experiment(corpus, None, terms=CE, **fields))
        state = setup.step.state
        paths = tree_paths.by_path(state.params["student"])
        if name != "all":
            assert {is_of(p) for p in paths} == {True, name == "adapters"}
        held = sum(x.size for x in jax.tree.leaves(state.opt_state))
        assert held <= 2 * sum(x.size for x in paths.values()) + 2
        costs[name] = flops.matmul_flops(
            setup.step.compiled, *setup.abstract_arguments()
        )
    # No product with a cotangent for a kernel: two of three products are left.
    assert costs["adapters"] < 0.75 * costs["all"]


@pytest.mark.slow
def test_adapters_begin_fresh_where_the_start_has_none(run, dataset):
    ctx = context(LORA, dataset, seed=4)
    loaded = starts.Run(workdir=run).load(ctx)
    arrays, fresh = whole(loaded.state()), whole(ctx.modules.create(4, ctx.mesh, {}))
    base = student_of(
        starts.Run(workdir=run).load(context(examples.TEACHER, dataset)).state()
    )
    for path, x in arrays.items():
        np.testing.assert_array_equal(x, (fresh if is_of(path) else base)[path])
    assert loaded.summary.endswith(": 21 loaded, 12 fresh of 33")


@pytest.mark.slow
def test_adapters_go_on_in_a_student_that_has_them(adapted, dataset):
    loaded = starts.Run(workdir=adapted).load(context(LORA, dataset))
    assert loaded.summary.endswith(": 33 loaded of 33")
    wider = context(fdl.copy_with(LORA, rank=3), dataset)
    with pytest.raises(UserError, match=r"adapters/down/a is \[64, 3\] in the student"):
        starts.Run(workdir=adapted).load(wider)


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["separate", "stacked"])
def test_adapters_go_into_the_kernels_of_a_student_that_has_none(
    adapted, dataset, layers
):
    student = fdl.copy_with(examples.TEACHER, layers=layers)
    ctx = context(student, dataset)
    state = starts.Run(workdir=adapted).load(ctx).state()
    arrays = jax.device_get(state.params["student"])
    weights = RunWeights(adapted)
    run = fdl.build(LORA)(rngs=nnx.Rngs(0))
    nnx.update(run, _filled(run, weights.tensors()))
    tokens = np.arange(16).reshape(2, 8)
    batch = {"tokens": tokens, "positions": tokens % 8, "segment_ids": tokens * 0 + 1}
    one, other = (
        model.head(model.trunk(batch).hidden)
        for model in (ctx.modules.student(arrays, {}), run)
    )
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def _filled(module, tensors):
    state = nnx.state(module, nnx.Param)
    paths = tree_paths.by_path(nnx.to_pure_dict(state))
    return jax.tree.unflatten(
        jax.tree.structure(state), [jnp.asarray(tensors[p].read()) for p in paths]
    )


def test_a_frozen_parameter_that_the_start_lacks_is_refused():
    student = fdl.build(examples.TEACHER)
    modules = TrainModules(student, CE, optax.adam(1e-3), trainable="*/mlp/*")
    ctx = context(examples.TEACHER, None)
    ctx = starts.StartContext(**{**vars(ctx), "modules": modules})
    trained = {
        path: StoredTensor(x.shape, x.dtype, np.ndarray)
        for path, x in wanted(ctx)[0].items()
        if "/mlp/" in path
    }
    lacking = Weights(source={"path": "there"}, tensors=trained)
    with pytest.raises(UserError, match="there has nothing for blocks/0/attention/key"):
        LoadedWeights(lacking, ctx)


def test_a_graph_names_the_field_of_a_wrapped_model_that_is_wrong(corpus):
    cfg = fdl.Config(
        examples.runner.Experiment,
        student=fdl.copy_with(LORA, targets="*/mpl/*"),
        losses=CE,
        train_data=corpus,
        optimizer=fdl.Config(optax.adam, 1e-3),
        num_steps=1,
        batch_size=8,
    )
    with pytest.raises(
        UserError, match=r"^student \(models.LoRA\): targets: no kernel matc"
    ):
        build.job(cfg)
