import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from models import Transformer, sharding
from tests.models.inputs import batch, mesh_of
from tests.models.states import initial_module, transformer

TINY = {"vocab_size": 12, "dim": 16, "num_layers": 1}
BATCH = ("data", "fsdp", "expert")


def test_a_parameter_draws_the_keys_that_its_stream_would():
    ours, flax = nnx.Rngs(3), nnx.Rngs(3)

    def init(key, shape, dtype):
        return jax.random.normal(key, shape, dtype)

    for _ in range(2):
        drawn = sharding.parameter(
            init, ours, (2, 3), axes=(None, None), dtype="float32"
        )
        np.testing.assert_array_equal(
            drawn[...], init(flax.params(), (2, 3), "float32")
        )


def test_to_draw_a_key_asks_no_tracer_where_it_lies(monkeypatch):
    asked = []

    def sharding_of(tracer):
        asked.append(tracer)
        raise AttributeError

    monkeypatch.setattr(Tracer, "sharding", property(sharding_of))
    model = functools.partial(Transformer, **TINY)
    nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0)))
    assert not asked


def test_rules_turn_names_into_mesh_axes():
    spec = sharding.partition_spec(("batch", None, "heads"))
    assert spec == PartitionSpec(("data", "fsdp", "expert"), None, "tensor")


def test_a_mesh_axis_serves_one_axis_of_an_array():
    assert sharding.partition_spec(("vocab", "mlp")) == PartitionSpec("tensor")


def test_an_axis_that_does_not_divide_is_replicated():
    sizes = {"tensor": 4, "fsdp": 2}
    spec = sharding.partition_spec(("embed", "heads"), shape=(8, 6), sizes=sizes)
    assert spec == PartitionSpec("fsdp")


def test_constrain_does_nothing_without_a_context():
    x = jnp.ones((4, 4))
    assert sharding.constrain(x, ("batch", "mlp")) is x


def test_constrain_places_an_activation_by_the_rules():
    mesh = mesh_of(data=2, tensor=4)

    def constrained(x):
        with sharding.use(mesh):
            return sharding.constrain(x, ("batch", "mlp"))

    placed = jax.jit(constrained)(jnp.ones((4, 8))).sharding
    assert placed.is_equivalent_to(
        NamedSharding(mesh, PartitionSpec("data", "tensor")), 2
    )


def test_constrain_leaves_manual_axes_alone():
    """As in the token blocks: batch axes manual, tensor automatic."""
    mesh = mesh_of(data=2, tensor=2, expert=2)
    model = transformer(dim=16)
    hidden = jax.random.normal(jax.random.key(0), (16, 16))

    def local(hidden):
        with sharding.use(mesh):
            return model.head(hidden)

    spec = PartitionSpec(BATCH)
    manual = jax.shard_map(
        local, mesh=mesh, in_specs=spec, out_specs=spec, axis_names=set(BATCH)
    )
    np.testing.assert_allclose(
        jax.jit(manual)(hidden), model.head(hidden), atol=1e-6, rtol=1e-6
    )


def test_parameters_are_sharded_by_their_axes():
    model = nnx.eval_shape(lambda: Transformer(**TINY, rngs=nnx.Rngs(0)))
    mesh = mesh_of(fsdp=2, tensor=2, data=2)
    places = sharding.parameter_shardings(nnx.state(model), mesh)
    block = places["blocks"][0]
    for place, spec in [
        (places["embedding"], ("tensor", "fsdp")),
        (block["attention"]["query"], ("fsdp", "tensor")),
        (block["attention"]["output"], ("tensor", None, "fsdp")),
        (block["mlp"]["down"], ("tensor", "fsdp")),
        (block["mlp_norm"]["scale"], ()),
    ]:
        assert place == NamedSharding(mesh, PartitionSpec(*spec))


@pytest.mark.slow
def test_a_model_is_created_in_its_shardings():
    mesh = mesh_of(fsdp=2, tensor=2, data=2)
    state = nnx.state(initial_module(Transformer, mesh=mesh, **TINY))
    same = jax.tree.map(
        lambda array, place: array.sharding.is_equivalent_to(place, array.ndim),
        nnx.to_pure_dict(state),
        sharding.parameter_shardings(state, mesh),
    )
    assert all(jax.tree.leaves(same))


@pytest.mark.slow
def test_initial_values_do_not_depend_on_the_mesh():
    one, many = (
        nnx.to_pure_dict(nnx.state(initial_module(Transformer, mesh=mesh, **TINY)))
        for mesh in (mesh_of(), mesh_of(fsdp=4, tensor=2))
    )
    # Compilers may round `erfinv` differently on shards of another length.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), one, many)


def test_shardings_have_the_shape_of_the_pure_state():
    abstract = nnx.state(transformer())
    shardings = sharding.parameter_shardings(abstract, mesh_of(fsdp=2))
    assert jax.tree.structure(shardings) == jax.tree.structure(
        nnx.to_pure_dict(abstract)
    )


def test_parameters_name_every_axis():
    with pytest.raises(ValueError, match="axes must name every axis"):
        sharding.parameter(
            jax.nn.initializers.zeros,
            nnx.Rngs(0),
            (2, 3),
            axes=("mlp",),
            dtype="float32",
        )


@functools.cache
def step():
    """Step of a small transformer: the function, its arguments, its result."""
    rows = batch([[5, 3], [8], [2, 6], [4]] * 2)
    graph, state = nnx.split(transformer(num_layers=1))

    def loss(params, rows):
        model = nnx.merge(graph, params)
        logits = model.head(model.trunk(rows).hidden)
        return jnp.sum(jnp.sin(logits), where=jnp.expand_dims(rows["mask"], 2))

    run, params = jax.value_and_grad(loss), nnx.to_pure_dict(state)
    return run, state, params, rows, jax.jit(run)(params, rows)


@pytest.mark.parametrize(
    "sizes",
    [
        {"data": 2, "fsdp": 2, "tensor": 2},
        pytest.param({"fsdp": 4, "tensor": 2}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_mesh_gives_the_gradients_of_one_device(sizes):
    mesh = mesh_of(**sizes)
    run, state, params, rows, expected = step()
    placed = jax.device_put(params, sharding.parameter_shardings(state, mesh))

    def sharded(params, rows):
        with sharding.use(mesh):
            return run(params, rows)

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5),
        jax.jit(sharded)(placed, rows),
        expected,
    )


def test_parameters_that_are_alike_are_traced_once_and_drawn_apart():
    traced = []

    def init(key, shape, dtype):
        traced.append(shape)
        return jax.random.normal(key, shape, dtype)

    def create():
        rngs = nnx.Rngs(0)
        field = {"axes": (None, None), "dtype": "float32"}
        both = (sharding.parameter(init, rngs, (2, 3), **field) for _ in "ab")
        return [parameter[...] for parameter in both]

    first, second = jax.jit(create)()
    assert traced == [(2, 3)]
    assert not np.any(first == second)
    np.testing.assert_array_equal([first, second], create())
