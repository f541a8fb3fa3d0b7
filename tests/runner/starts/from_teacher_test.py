"""Students cut from their teachers."""

import dataclasses

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from runner import starts
from runner.errors import UserError
from runner.starts import pruning
from runner.starts.importance import measure
from runner.teachers import OnlineTeacher
from tests.runner.starts.contexts import context
from tests.runner.teachers import examples

LARGE = fdl.Partial(
    models.Transformer,
    vocab_size=examples.VOCABULARY,
    dim=24,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    tie_head=True,
    mlp=fdl.Partial(models.GatedMLP, hidden_dim=20),
)


def smaller(**fields):
    """The student: fewer of some parts."""
    hidden_dim = fields.pop("hidden_dim", 20)
    mlp = fdl.Partial(models.GatedMLP, hidden_dim=hidden_dim)
    return fdl.copy_with(LARGE, mlp=mlp, **fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teacher")


@pytest.fixture(scope="module")
def dataset(folder):
    return fdl.build(examples.source(folder / "text")).load()


def idle(path, x):
    """Layer 1, the second group of heads, and neuron 3 add nothing."""
    name = "/".join(str(key.key) for key in path)
    if name in ("blocks/1/attention/output", "blocks/1/mlp/down"):
        return 0 * x
    if name.endswith("mlp/up"):
        return x.at[:, 3].set(0)
    if name.endswith("attention/value"):
        return x.at[:, 1].set(0)
    return x


@pytest.fixture(scope="module")
def run(folder, dataset):
    """A teacher with idle parts, and its arrays."""
    path = folder / "run"
    examples.write_run(path, dataset, student=LARGE, scale=1.0, change=idle)
    return str(path)


def logits(ctx, state, dataset):
    rows = {name: jnp.asarray(x) for name, x in dataset.rows(np.arange(4)).items()}
    model = ctx.modules.student(*jax.device_get((state.params["student"], {})))
    return np.asarray(model.head(model.trunk(rows).hidden))


@pytest.fixture(scope="module")
def teacher_logits(run, dataset):
    ctx = context(LARGE, dataset)
    return logits(ctx, starts.Run(workdir=run).load(ctx).state(), dataset)


def load(run, dataset, student, **fields):
    ctx = context(student, dataset, teacher=OnlineTeacher(checkpoint=run))
    return ctx, starts.FromTeacher(rows=8, **fields).load(ctx)


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({"num_layers": 2}, "best"),
        ({"hidden_dim": 19}, "evenly"),
        ({"num_heads": 2, "num_kv_heads": 1}, "evenly"),
        ({"num_layers": 2, "layers": "stacked"}, (0, 2)),
    ],
)
@pytest.mark.slow
def test_what_says_nothing_is_cut_first(run, dataset, teacher_logits, fields, layers):
    """The student says what its teacher does, where all that was cut was idle."""
    ctx, loaded = load(run, dataset, smaller(**fields), layers=layers)
    found = logits(ctx, loaded.state(), dataset)
    np.testing.assert_allclose(found, teacher_logits, atol=2e-5)
    kept = [0, 2] if "num_layers" in fields else [0, 1, 2]
    assert loaded.describe()["source"]["layers"] == kept


@pytest.mark.slow
def test_importance_is_what_the_formulas_say(run, dataset):
    """In float64, from the arrays of the first layer and its input."""
    ctx = context(LARGE, dataset)
    state = starts.Run(workdir=run).load(ctx).state()
    params = jax.device_get(state.params["student"])
    model = ctx.modules.student(params, {})
    rows = {name: jnp.asarray(x) for name, x in dataset.rows(np.arange(4)).items()}
    halves = [{n: x[i : i + 2] for n, x in rows.items()} for i in (0, 2)]
    found = measure(model, halves)
    counted = np.asarray(rows["segment_ids"]) > 0
    x = np.asarray(params["embedding"], np.float64)[np.asarray(rows["tokens"])]
    trunk = model.trunk(rows, capture=frozenset({"hidden"}))
    hidden = np.asarray(trunk.intermediates["hidden"], np.float64)
    for layer in range(3):
        y = hidden[:, :, layer]
        lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
        influence = (1 - np.sum(x * y, axis=-1) / lengths)[counted].mean()
        np.testing.assert_allclose(found.layers[layer], influence, atol=1e-6)
        x = y
    assert found.layers[1] < 1e-6 < min(found.layers[0], found.layers[2])
    assert np.all(found.heads[:, :2] > 0) and np.all(found.heads[:, 2:] == 0)
    assert found.neurons is not None and np.all(found.neurons[:, 3] == 0)
    assert found.channels.shape == (24,) and np.all(found.channels > 0)


def test_heads_are_kept_in_groups_and_channels_everywhere():
    large = pruning.Sizes(
        layers=1, channels=4, heads=4, kv_heads=2, neurons=3, vocabulary=9
    )
    importance = pruning.Importance(
        layers=np.ones(1),
        channels=np.array([1.0, 4.0, 2.0, 3.0]),
        heads=np.array([[1.0, 2.0, 9.0, 1.0]]),
        neurons=np.array([[5.0, 7.0, 6.0]]),
    )
    small = pruning.Sizes(
        layers=1, channels=2, heads=2, kv_heads=2, neurons=2, vocabulary=8
    )
    kept = pruning.best(importance, large, small, [0])
    assert list(kept.channels) == [1, 3] and list(kept.neurons[0]) == [1, 2]
    assert list(kept.heads[0]) == [1, 2] and list(kept.kv_heads[0]) == [0, 1]
    one = pruning.best(importance, large, dataclasses.replace(small, kv_heads=1), [0])
    assert list(one.heads[0]) == [2, 3] and list(one.kv_heads[0]) == [1]
    assert pruning.evenly(15, 30) == list(range(0, 30, 2))


@pytest.mark.slow  # of a run that has to be made
@pytest.mark.parametrize(
    ("student", "fields", "said"),
    [
        ({"num_layers": 2}, {"layers": (0, 3)}, "no layer 3: they are 0 to 2"),
        ({"num_layers": 2}, {"layers": (0,)}, "1 are kept, the student has 2"),
        ({"num_layers": 4}, {}, "has 3 layers, the student 4: more"),
        ({"hidden_dim": 32}, {}, "has 20 neurons, the student 32: more"),
        ({"head_dim": 4}, {"widths": "first"}, "attention/.* is .* in the student"),
        ({"tie_head": False, "vocab_size": 64}, {}, "64 outputs for 300 tokens"),
    ],
)
def test_what_cannot_be_cut_so_is_refused(run, dataset, student, fields, said):
    with pytest.raises(UserError, match=f"start: .*{said}"):
        load(run, dataset, smaller(**student), **fields)


def test_it_needs_a_model_that_teaches(dataset):
    with pytest.raises(UserError, match="no OnlineTeacher; say checkpoint='PATH'"):
        starts.FromTeacher().load(context(LARGE, dataset))
    with pytest.raises(ValueError, match="did you mean 'evenly'"):
        starts.FromTeacher(layers="even")
