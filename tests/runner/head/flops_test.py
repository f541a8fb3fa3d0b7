import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from runner.head import flops

A = jax.ShapeDtypeStruct((4, 5), jnp.float32)
B = jax.ShapeDtypeStruct((5, 6), jnp.float32)


def test_a_matmul_is_two_times_its_three_sizes():
    assert flops.matmul_flops(jnp.matmul, A, B) == 2 * 4 * 5 * 6


def test_backward_is_twice_forward():
    loss = jax.grad(lambda a, b: jnp.sum(jnp.square(a @ b)), argnums=(0, 1))
    assert flops.matmul_flops(loss, A, B) == 3 * 2 * 4 * 5 * 6


def test_a_batched_contraction():
    x = jax.ShapeDtypeStruct((2, 4, 3, 5), jnp.float32)
    found = flops.matmul_flops(lambda x: jnp.einsum("bqhd,bkhd->bhqk", x, x), x)
    assert found == 2 * (2 * 3) * 4 * 4 * 5


def test_a_loop_counts_every_trip():
    def looped(a, b):
        return jax.lax.scan(lambda c, _: (c + jnp.sum(a @ b), None), 0.0, length=7)[0]

    assert flops.matmul_flops(looped, A, B) == 7 * 2 * 4 * 5 * 6


def test_jit_and_remat_are_looked_into():
    def inner(a, b):
        return jax.jit(jax.checkpoint(jnp.matmul))(a, b)

    assert flops.matmul_flops(inner, A, B) == 2 * 4 * 5 * 6


def test_shard_map_counts_every_device():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = PartitionSpec("x")
    sharded = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows
    )
    assert flops.matmul_flops(sharded, A, B) == 2 * 4 * 5 * 6


def test_shard_map_counts_no_device_along_an_automatic_axis():
    automatic = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=automatic)
    rows = PartitionSpec("x")
    sharded = jax.shard_map(
        jnp.matmul,
        mesh=mesh,
        in_specs=(rows, PartitionSpec()),
        out_specs=rows,
        axis_names={"x"},
    )
    assert flops.matmul_flops(sharded, A, B) == 2 * 4 * 5 * 6


def test_a_grouped_matmul_uses_each_row_once_forward_and_twice_backward():
    x = jax.ShapeDtypeStruct((10, 4), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 4, 5), jnp.float32)

    def grouped(x, w):
        return jax.lax.ragged_dot(x, w, jnp.array([3, 0, 7], jnp.int32))

    def loss(x, w):
        return jnp.sum(jnp.square(grouped(x, w)))

    assert flops.matmul_flops(grouped, x, w) == 2 * 10 * 4 * 5
    assert flops.matmul_flops(jax.grad(loss, argnums=(0, 1)), x, w) == 6 * 10 * 4 * 5


def test_a_convolution():
    image = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 16), jnp.float32)

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    expected = 2 * (2 * 8 * 8 * 16) * (3 * 3 * 3)
    assert flops.matmul_flops(convolve, image, kernel) == expected


def test_a_loop_as_long_as_its_data_says_makes_it_a_lower_bound():
    def looped(count, a, b):
        def body(_, total):
            return total + jnp.sum(a @ b)

        return jax.jit(lambda: jax.lax.fori_loop(0, count, body, 0.0))()

    count = jax.ShapeDtypeStruct((), jnp.int32)
    assert flops.is_lower_bound(looped, count, A, B)
    assert flops.matmul_flops(looped, count, A, B) == 2 * 4 * 5 * 6
    assert not flops.is_lower_bound(jnp.matmul, A, B)


class Chip:
    def __init__(self, device_kind):
        self.device_kind = device_kind


@pytest.mark.parametrize(
    ("kind", "peak"),
    [("NVIDIA H200", 989e12), ("TPU v5 lite", 197e12), ("TPU v5p", 459e12)],
)
def test_peaks_by_kind(kind, peak):
    assert flops.peak(Chip(kind)) == peak


def test_an_unknown_chip_has_no_peak():
    assert flops.peak(Chip("cpu")) is None
