"""Collectives read from compiled programs, against those that were written."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from runner.dry_run.hlo import collectives
from runner.dry_run.hlo.collectives import Collective
from runner.machine import topology

ROWS, SIZE, FLOAT = 1024, 1024, 4

no_libtpu = importlib.util.find_spec("libtpu") is None


@pytest.fixture(
    params=[
        "cpu:8",
        pytest.param(
            "v5e:2x4", marks=pytest.mark.skipif(no_libtpu, reason="needs libtpu")
        ),
    ]
)
def mesh(request):
    return jax.make_mesh(
        (2, 4),
        ("data", "fsdp"),
        axis_types=(AxisType.Auto,) * 2,
        devices=topology.planned(request.param).devices,
    )


def of(mesh, fn, *specs, out=None):
    """The collectives of `fn` over arrays `[ROWS, SIZE]` that lie by `specs`."""
    sharded = jax.shard_map(
        fn, mesh=mesh, in_specs=specs, out_specs=out or PartitionSpec(), check_vma=False
    )
    arrays = [
        jax.ShapeDtypeStruct(
            (ROWS, SIZE), jnp.float32, sharding=NamedSharding(mesh, spec)
        )
        for spec in specs
    ]
    return collectives.of(
        jax.jit(sharded).lower(*arrays).compile().as_text(), mesh.shape
    )


@pytest.mark.parametrize(
    ("axes", "devices"), [(("fsdp",), 4), (("data",), 2), (("data", "fsdp"), 8)]
)
def test_a_sum_along_axes_is_an_all_reduce_along_them(mesh, axes, devices):
    found = of(mesh, lambda x: jax.lax.psum(x, axes), PartitionSpec())
    whole = ROWS * SIZE * FLOAT
    assert found == [Collective("all-reduce", axes, devices, 1, whole)]
    assert found[0].sent == 2 * whole * (devices - 1) // devices


def test_a_gather_in_a_loop_of_five_is_five_gathers(mesh):
    def looped(x):
        def body(total, scale):
            gathered = jax.lax.all_gather(x * scale, "fsdp", axis=0, tiled=True)
            return total + jnp.sum(jnp.square(gathered)), None

        return jax.lax.scan(body, jnp.zeros(()), jnp.arange(5.0))[0]

    found = of(mesh, looped, PartitionSpec("fsdp"))
    assert found == [Collective("all-gather", ("fsdp",), 4, 5, 5 * ROWS * SIZE * FLOAT)]
    assert found[0].sent == 5 * (3 * ROWS // 4 * SIZE * FLOAT)


def test_a_permutation_sends_what_it_gives(mesh):
    ring = [(i, (i + 1) % 2) for i in range(2)]
    found = of(
        mesh,
        lambda x: jax.lax.ppermute(x, "data", ring),
        PartitionSpec("data"),
        out=PartitionSpec("data"),
    )
    shard = ROWS // 2 * SIZE * FLOAT
    assert found == [Collective("collective-permute", ("data",), 2, 1, shard)]
    assert found[0].sent == shard


def test_of_a_scattered_sum_the_bytes_are_those_before_it(mesh):
    found = of(
        mesh,
        lambda x: jax.lax.psum_scatter(x, "fsdp", tiled=True),
        PartitionSpec(),
        out=PartitionSpec("fsdp"),
    )
    whole = ROWS * SIZE * FLOAT
    assert found == [Collective("reduce-scatter", ("fsdp",), 4, 1, whole)]
    assert found[0].sent == 3 * whole // 4


def test_an_exchange(mesh):
    found = of(
        mesh,
        lambda x: jax.lax.all_to_all(x, "fsdp", 1, 0, tiled=True),
        PartitionSpec("fsdp"),
        out=PartitionSpec(None, "fsdp"),
    )
    assert [(one.kind, one.axes) for one in found] == [("all-to-all", ("fsdp",))]
    assert found[0].bytes == ROWS // 4 * SIZE * FLOAT


def test_a_loop_as_long_as_its_data_decide_is_counted_once_and_said_so(mesh):
    def looped(x):
        def body(carry):
            i, total = carry
            return i + 1, jax.lax.psum(total, "fsdp") / 4 + i

        def goes_on(carry):
            return carry[1][0, 0] < 7.0

        return jax.lax.while_loop(goes_on, body, (0.0, x))[1]

    found = of(mesh, looped, PartitionSpec())
    assert [(one.kind, one.count, one.open) for one in found] == [
        ("all-reduce", 1, True)
    ]


def test_what_is_gathered_for_fully_sharded_matmuls_are_the_parameters(mesh):
    layers, dim = 6, 1024
    placed = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    weights = jax.ShapeDtypeStruct((layers, dim, dim), jnp.float32, sharding=placed)
    x = jax.ShapeDtypeStruct((4096, dim), jnp.float32, sharding=rows)

    def forward(weights, x):
        def layer(x, w):
            w = jax.lax.with_sharding_constraint(
                w, NamedSharding(mesh, PartitionSpec())
            )
            y = jnp.tanh(jnp.matmul(x, w, precision="highest"))  # else in bfloat16
            return jax.lax.with_sharding_constraint(y, rows), None

        return jax.lax.scan(layer, x, weights)[0]

    text = jax.jit(forward).lower(weights, x).compile().as_text()
    assert collectives.of(text, mesh.shape) == [
        Collective("all-gather", ("fsdp",), 4, layers, layers * dim * dim * FLOAT)
    ]


def test_one_device_has_none():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    assert of(mesh, lambda x: jax.lax.psum(x, "data"), PartitionSpec()) == []
