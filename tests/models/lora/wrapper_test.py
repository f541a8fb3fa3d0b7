"""Models with adapters: the model at the start, one with other kernels after it."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from models import ConvNet, GatedMLP, LoRA, MoE, Transformer, layers
from runner.checkpoint import tree_paths
from tests.models.inputs import batch
from tests.models.states import SMALL, random_module

ROWS = batch([[5, 3], [8], [2, 6]])
MLPS = {
    "dense": functools.partial(GatedMLP, hidden_dim=24),
    "moe": functools.partial(MoE, num_experts=3, hidden_dim=8, num_shared_experts=1),
}


def base(mlp="dense", **fields):
    return functools.partial(Transformer, **(SMALL | fields), mlp=MLPS[mlp])


def arrays(model):
    return tree_paths.by_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def logits(model):
    return model.head(model.trunk(ROWS).hidden)


@pytest.mark.parametrize(
    "form", ["separate", pytest.param("stacked", marks=pytest.mark.slow)]
)
def test_it_begins_as_the_model_bit_for_bit(form):
    make = base("moe" if form == "stacked" else "dense", layers=form, num_layers=1)
    plain = make(rngs=nnx.Rngs(3))
    adapted = LoRA(model=make, targets="*", rank=2, rngs=nnx.Rngs(3))
    theirs = arrays(adapted)
    for path, x in arrays(plain).items():
        assert theirs[path].tobytes() == x.tobytes()
    run = nnx.jit(logits)
    np.testing.assert_array_equal(run(adapted), run(plain))


@pytest.mark.parametrize(
    ("mlp", "form"),
    [
        ("moe", "stacked"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("moe", "separate"),
                ("dense", "separate"),
                ("dense", "stacked"),
            ]
        ),
    ],
)
def test_it_is_the_model_whose_kernels_are_sums(mlp, form):
    """`W + alpha/rank · A B`, the products in float64."""
    make = base(mlp, layers=form, attention_bias=True)
    adapted = random_module(LoRA, model=make, targets="*", rank=2, alpha=3.0)
    changed = arrays(adapted)
    summed = {p: np.float64(x) for p, x in changed.items() if "adapters" not in p}
    for path in [p for p in changed if p.endswith("/a")]:
        owner, name = path.removesuffix("/a").split("/adapters/")
        kernel = summed[f"{owner}/{name}"]
        a, b = (np.float64(changed[path[:-1] + x]) for x in "ab")
        axes = layers.kernel_axes(name)
        lead = kernel.shape[: -len(axes.inputs) - len(axes.outputs)]
        pairs = a.reshape(*lead, -1, 2) @ b.reshape(*lead, 2, -1)
        summed[f"{owner}/{name}"] = kernel + 1.5 * pairs.reshape(kernel.shape)
    plain = random_module(make)
    graph, state = nnx.split(plain)
    filled = jax.tree.unflatten(
        jax.tree.structure(state),
        [np.float32(summed[p]) for p in tree_paths.by_path(nnx.to_pure_dict(state))],
    )
    expected = logits(nnx.merge(graph, filled))
    assert np.abs(expected - logits(plain)).max() > 0.1
    np.testing.assert_allclose(logits(adapted), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_adapters_begin_the_same_in_both_forms_and_whatever_others_there_are():
    separate, stacked, few = (
        arrays(LoRA(model=base("moe", layers=form), targets=to, rngs=nnx.Rngs(5)))
        for form, to in (
            ("separate", "*"),
            ("stacked", "*"),
            ("separate", "*/1/attention/query"),
        )
    )
    assert [p for p in few if "adapters" in p] == [
        f"blocks/1/attention/adapters/query/{x}" for x in "ab"
    ]
    for path in (p for p in stacked if p.endswith("/a")):
        for layer in range(2):
            name = path.replace("stacked", str(layer))
            np.testing.assert_array_equal(stacked[path][layer], separate[name])
            if name in few:
                np.testing.assert_array_equal(few[name], separate[name])
    draws = stacked["blocks/stacked/mlp/adapters/gate/a"]
    assert len(np.unique(draws)) == draws.size  # no two matrices of one key
    np.testing.assert_allclose(np.var(draws), 1 / 3 / 16, rtol=0.2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"targets": "embedding"}, r"no kernel matches 'embedding'; one of: \['\*/att"),
        (
            {"targets": ["*/attention/*", "*/atention/key"]},
            "did you mean '\\*/attention/key'",
        ),
        ({"targets": ["*/mlp/*", "!*"]}, r"\['\*/mlp/\*', '!\*'\] leaves no kernel"),
        ({"rank": 0}, "rank must be positive, got 0"),
        ({"alpha": -1.0}, "alpha must be positive, got -1.0"),
        ({"adapter_dtype": "float8"}, "adapter_dtype must be one of"),
        (
            {"model": functools.partial(LoRA, model=base())},
            "model has adapters already",
        ),
        (
            {"model": functools.partial(ConvNet, num_classes=3)},
            "targets: the model has no kernel that can have an adapter",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    fields = {"model": base(), **fields}
    with pytest.raises(ValueError, match=words):
        nnx.eval_shape(lambda: LoRA(**fields, rngs=nnx.Rngs(0)))
