"""Fresh values: those of `jax.jit`, whatever draws them, and few programs."""

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.random import threefry_2x32
from jax.sharding import NamedSharding, PartitionSpec

import losses
from losses import LossTerm
from models import Transformer
from runner import optimizers, runtime
from runner.machine import mesh as mesh_lib
from runner.state import fresh, random_bits
from runner.state.trainable import TrainModules
from tests.runner.states import assert_bits

pytestmark = pytest.mark.own_initializer

KEY = jax.random.key(7)
ONE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def draws(key):
    """Draws of all kinds: by width, by many keys, in calls, in a loop."""
    keys = jax.random.split(key, 8)
    _, looped = jax.lax.scan(lambda k, _: (k, jax.random.bits(k, (2,))), key, length=2)
    return {
        "normal": jax.nn.initializers.lecun_normal()(keys[0], (37, 3)),
        "bfloat16": jax.random.uniform(keys[1], (5, 7), jnp.bfloat16),
        "bytes": jax.random.bits(keys[2], (9,), jnp.uint8),
        "one": jax.random.bits(keys[3]),
        "many": jax.vmap(lambda k: jax.random.bits(k, (3, 4)))(keys[4:]),
        "call": jax.jit(lambda k: 2 * jax.jit(jax.random.bits)(k))(keys[4]),
        "looped": looped,
        "folded": jax.random.bits(
            jax.random.fold_in(
                jax.vmap(jax.random.fold_in)(keys[:2], jnp.array([2, -3]))[1], 4
            )
        ),
        "folded in many": jax.vmap(
            lambda n: jax.random.bits(jax.random.fold_in(keys[6], n), (2,))
        )(jnp.arange(3)),
        "old key": jax.random.bits(jax.random.key_data(keys[5])),
        "none": jnp.zeros(2),
    }


def drawn(monkeypatch):
    """Shapes of the parts that devices are handed, from here on."""
    shapes = []
    part = random_bits._part

    def spied(words, shape, box):
        bits = part(words, shape, box)
        shapes.append(bits.shape)
        return bits

    monkeypatch.setattr(random_bits, "_part", spied)
    return shapes


def programs():
    """Names of events of JAX, counted from here on."""
    counts = collections.Counter()
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, _, **about: counts.update([name])
    )
    return lambda: counts["/jax/core/compile/backend_compile_duration"]


def test_values_are_those_of_one_compiled_program():
    assert_bits(fresh.evaluate(draws, KEY, out_shardings=ONE), jax.jit(draws)(KEY))


def test_elements_beyond_32_bits_are_those_of_the_cipher():
    words, index = np.array([3, 5], np.uint32), np.array([2**32 + 1, 7 * 2**32, 12])
    high, low = np.divmod(index, 2**32)
    pair = threefry_2x32(words, np.stack([high, low]).astype(np.uint32))
    np.testing.assert_array_equal(random_bits._chunk(words, index), pair[0] ^ pair[1])


def test_each_device_draws_its_own_part(monkeypatch):
    config = runtime.Mesh(data=1, fsdp=4, tensor=2)
    placed = NamedSharding(mesh_lib.make(config), PartitionSpec("tensor", "fsdp"))

    def function(key):
        return jax.random.bits(key, (4, 2**15)).reshape(4, 2**8, 2**7)

    shapes = drawn(monkeypatch)
    ours = fresh.evaluate(function, KEY, out_shardings=placed)
    assert shapes == [(2, 2**13)] * 8
    np.testing.assert_array_equal(ours, function(KEY))
    assert ours.sharding == placed


def test_what_is_given_is_not_drawn(monkeypatch):
    def function(key, start):
        return start if start is not None else jax.random.bits(key, (3,)), key

    shapes = drawn(monkeypatch)
    fresh.evaluate(
        lambda key, start: draws(key) | {"normal": start["normal"]},
        KEY,
        {"normal": jnp.ones(3)},
        out_shardings=ONE,
    )
    assert (37, 3) not in shapes and (9,) in shapes


def modules(num_layers):
    build = functools.partial(
        Transformer, vocab_size=32, dim=8, num_layers=num_layers, num_heads=2
    )
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 4, 40)
    terms = [LossTerm(name="ce", loss=losses.CrossEntropy())]
    return TrainModules(build, terms, optimizers.adamw(rate))


def stack(num_layers):
    return lambda key: [
        jax.random.normal(jax.random.fold_in(key, layer), (4, 4))
        for layer in range(num_layers)
    ]


def test_more_draws_are_no_more_programs():
    fresh.evaluate(stack(1), KEY, out_shardings=ONE)
    counted = programs()
    fresh.evaluate(stack(2), KEY, out_shardings=ONE)
    two = counted()
    fresh.evaluate(stack(5), KEY, out_shardings=ONE)
    assert two > 0 and counted() == 2 * two


def test_the_keys_of_a_model_are_derived_without_a_program():
    parts = fresh._Parts.of(modules(2).initial, KEY)
    counted = programs()
    keys = parts.keys(KEY)
    assert len(keys) == 2 + 2 * 7 and counted() == 0


def test_a_model_draws_nothing_in_the_program_of_its_state():
    """XLA would compile a generator for each draw."""
    parts = fresh._Parts.of(modules(2).initial, KEY)
    avals: list[Any] = [x.aval for x in parts.draws]
    bits = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in avals]
    assert len(bits) == 2 + 2 * 7
    rest = str(jax.make_jaxpr(parts.rest)(KEY, bits=bits))
    assert "erf_inv" in rest and "random" not in rest and "threefry" not in rest


def test_shardings_compute_nothing():
    mesh, rules = mesh_lib.make(runtime.Mesh()), runtime.Mesh().rules
    jax.clear_caches()
    counted = programs()
    modules(1).shardings(mesh, rules)
    assert counted() == 0
