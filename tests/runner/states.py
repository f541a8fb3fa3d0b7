"""States to train and to save, and damage to what was saved."""

import jax
import jax.numpy as jnp
import numpy as np

from runner.state import fresh

_FRESH = {}


def placed_state(modules, seed, mesh, rules):
    """A fresh state as `TrainModules.create` gives it, for a fraction of the compiling.

    Its values depend on the seed alone, so that they are computed once for equal
    modules, on one device, whatever the mesh; `state_test` shows that it is so.
    """
    key = jax.random.key(seed)
    # `shardings`, below, needs this trace too.
    initial = modules._jitted_initial
    name = seed, _text(initial.trace(key))
    if name not in _FRESH:
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        state = fresh.evaluate(initial, key, out_shardings=one)
        _FRESH[name] = jax.device_get(state)
    # A copy: a step donates what it is handed.
    values = jax.tree.map(np.array, _FRESH[name])
    return jax.device_put(values, modules.shardings(mesh, rules))


def _text(traced):
    """All that a traced function's result depends on, but for its arguments."""
    constants = [np.asarray(x).tobytes() for x in traced.jaxpr.consts]
    return str(traced.jaxpr), *constants, jax.tree.structure(traced.out_info)


def abstract(tree):
    """What `restore` is asked for to get `tree`, where it lies."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        ),
        tree,
    )


def content(step):
    """A tree that tells its step: every dtype that a state holds, one leaf 0-d."""
    return {
        "step": jnp.int32(step),
        "params": {"w": jnp.full((300, 400), step, jnp.float32) / jnp.float32(7)},
        "optimizer": (jnp.full((5,), step, jnp.bfloat16), ()),
        "empty": jnp.zeros((0, 3)),
    }


def assert_bits(left, right):
    """Equal in structure, dtype, shape and every bit."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def array_file(checkpoint):
    """The largest file that orbax wrote: the one with the arrays."""
    files = [path for path in checkpoint.glob("ocdbt*/d/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(checkpoint):
    """In the middle of the arrays."""
    path = array_file(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
