"""A step that is run twice: equal bits pass, one flipped bit is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from runner.errors import Corrupted
from runner.train.repeated_step import RepeatedStep, differing_devices

MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def placed(array, *axes):
    return jax.device_put(array, NamedSharding(MESH, PartitionSpec(*axes)))


class Step:
    """Adds one to every leaf; in the call of this number it flips one bit."""

    def __init__(self, *, flips=-1):
        self.state = {"params": {"w": 0}, "step": 0}
        self.calls, self.flips = 0, flips

    def __call__(self, leaves, batch):
        weights, step = (leaf + 1 for leaf in leaves)
        if self.calls == self.flips:
            flipped = np.array(weights)
            flipped.view(np.uint32)[5] ^= 1
            weights = placed(flipped, "data")
        self.calls += 1
        for leaf in leaves:  # donated
            leaf.delete()
        return [weights, step], {}


def leaves():
    return [placed(jnp.arange(16, dtype=jnp.float32), "data"), placed(jnp.int32(0))]


def test_equal_bits_pass_and_the_first_result_is_kept():
    step = Step()
    repeated, state = RepeatedStep(step, every=2), leaves()
    for number in range(1, 5):
        state, _ = repeated(number, state, {})
    assert step.calls == 6
    np.testing.assert_array_equal(state[0], np.arange(16) + 4)


@pytest.mark.parametrize("flips", [0, 1])
def test_a_flipped_bit_in_either_run_stops_with_leaf_and_device(flips):
    repeated = RepeatedStep(Step(flips=flips), every=1)
    device = jax.devices()[2]  # which holds entries 4 and 5
    with pytest.raises(Corrupted) as stopped:
        repeated(1, leaves(), {})
    first, last = str(stopped.value).splitlines()
    assert first == f"step 1: run twice, it gave other bits: params/w on {device}"
    assert last.startswith("no checkpoint of this state was kept")


def test_steps_in_between_and_at_zero_are_not_repeated():
    for every in (0, 3):
        step = Step(flips=1)
        RepeatedStep(step, every=every)(2, leaves(), {})
        assert step.calls == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_bits_are_compared_not_values(dtype):
    array = jnp.ones(8, dtype)
    assert not differing_devices(array, array + 0 if dtype != "bool" else array)
    other = jnp.zeros(8, dtype)
    assert differing_devices(array, other) == [str(jax.devices()[0])]
    if dtype in ("float32", "bfloat16"):
        nan = jnp.full(8, jnp.nan, dtype)
        assert not differing_devices(nan, jnp.full(8, jnp.nan, dtype))
        assert differing_devices(other, -other)
