"""One gradient: whatever the mesh, the microbatches and the token blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import losses
from losses import LossTerm
from models import MoE, Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from tests.heads import in_blocks, in_tiles

BATCH, LENGTH, VOCABULARY = 8, 12, 37


class Readout(losses.Loss, nnx.Module):
    """A loss with a parameter: a line through a hidden layer should read 1."""

    needs = frozenset({"hidden/0"})

    def __init__(self, *, rngs):
        self.line = nnx.Param(jax.random.normal(rngs.params(), (16,)))

    def __call__(self, outputs):
        return jnp.square(outputs.intermediates["hidden/0"] @ self.line[...] - 1.0)


TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(
        name="z_loss",
        loss=losses.ZLoss(),
        weight=optax.linear_schedule(1e-2, 2e-2, 10),
    ),
    LossTerm(
        name="router_z",
        loss=losses.RouterZLoss(),
        weight=1e-2,
        mask=losses.token_mask,
    ),
    LossTerm(name="balance", loss=losses.LoadBalance(), weight=0.5),
    LossTerm(name="readout", loss=Readout, weight=0.1),
)

STUDENT = functools.partial(
    Transformer,
    vocab_size=VOCABULARY,
    dim=16,
    num_layers=2,
    num_heads=2,
    tie_head=True,
    mlp=functools.partial(MoE, num_experts=4, experts_per_token=2, hidden_dim=16),
)


@pytest.fixture(scope="module")
def batch():
    return ragged()


def ragged():
    """Two documents a row, rows of very different length, padded."""
    rng = np.random.default_rng(0)
    lengths = np.array([12, 1, 7, 12, 3, 12, 5, 0])
    place = np.arange(LENGTH)
    real = place < lengths[:, None]
    return {
        "tokens": rng.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32),
        "targets": rng.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32),
        "mask": real & (rng.random((BATCH, LENGTH)) < 0.8),
        "segment_ids": np.where(real, 1 + (place >= 4), 0).astype(np.int32),
        "positions": np.tile(np.where(place < 4, place, place - 4), (BATCH, 1)).astype(
            np.int32
        ),
        "index": np.arange(BATCH, dtype=np.int32),
    }


@functools.cache
def modules():
    return TrainModules(STUDENT, TERMS, optax.sgd(0.1))


def gradients(batch, *, mesh=None, head=None, microbatches=1):
    config = runtime.Runtime(
        mesh=mesh or runtime.Mesh(data=8),
        step=runtime.Step(microbatches=microbatches),
        head=head or runtime.Head(),
    )
    devices = mesh_lib.make(config.mesh)
    rules = config.mesh.rules
    objective = Objective(modules(), mesh=devices, config=config, seed=0)
    state = modules().create(3, devices, rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, rules):
            found = objective(state.params, state.variables, batch, jnp.int32(5))
        return found.params, found.total, found.terms, found.expert_load

    placed = jax.device_put(batch, mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@pytest.fixture(scope="module")
def expected(batch):
    """By plain autodiff of the whole, on one device, written out."""
    state = jax.jit(modules().initial)(jax.random.key(3))

    def objective(params):
        student = modules().student(params["student"], state.variables["student"])
        capture = frozenset({"router_logits", "router_assignments", "hidden/0"})
        trunk = student.trunk(batch, capture=capture)
        logits = student.head(trunk.hidden)
        router = trunk.intermediates["router_logits"]
        mask = batch["mask"].astype(jnp.float32)
        tokens = (batch["segment_ids"] > 0).astype(jnp.float32)

        def mean(values, mask):
            return jnp.sum(values * mask) / jnp.sum(mask)

        ce = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        z = jnp.square(jax.nn.logsumexp(logits, axis=-1))
        router_z = jnp.mean(jnp.square(jax.nn.logsumexp(router, axis=-1)), axis=-1)
        chosen = jnp.sum(
            jax.nn.one_hot(trunk.intermediates["router_assignments"], 4), axis=-2
        )
        share = jnp.einsum("bt,btle->le", mask, chosen) / jnp.sum(mask)
        p = jnp.einsum("bt,btle->le", mask, jax.nn.softmax(router)) / jnp.sum(mask)
        balance = 4 / 2 * jnp.mean(jnp.sum(share * p, axis=-1))
        line = params["losses"]["readout"]["line"]
        readout = jnp.square(trunk.intermediates["hidden/0"] @ line - 1.0)
        return (
            mean(ce, mask)
            + 1.5e-2 * mean(z, mask)
            + 1e-2 * mean(router_z, tokens)
            + 0.5 * balance
            + 0.1 * mean(readout, mask)
        )

    total, params = jax.jit(jax.value_and_grad(objective))(state.params)
    return jax.device_get((params, total))


def assert_same(found, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6),
        found,
        expected,
    )


def test_the_gradient_is_that_of_the_textbook(batch, expected):
    params, total, _, _ = gradients(batch)
    assert_same((params, total), expected)


MESHES = {
    "1x8": runtime.Mesh(data=8),
    "4x2": runtime.Mesh(data=4, fsdp=2),
    "2x2x2": runtime.Mesh(data=2, fsdp=2, tensor=2),
    "2x2 experts x2": runtime.Mesh(data=2, tensor=2, expert=2),
}


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_every_mesh_gives_the_same_gradient(batch, expected, mesh):
    params, total, _, _ = gradients(batch, mesh=mesh, head=in_blocks(5, VOCABULARY))
    assert_same((params, total), expected)


@pytest.mark.parametrize("microbatches", [2, 4])
def test_accumulation_gives_the_same_gradient_and_the_same_metrics(
    batch, expected, microbatches
):
    mesh = runtime.Mesh(data=2, tensor=4)
    params, total, terms, load = gradients(batch, mesh=mesh, microbatches=microbatches)
    assert_same((params, total), expected)
    _, _, once, load_once = gradients(batch, mesh=mesh)
    for name, term in once.items():
        np.testing.assert_allclose(terms[name].total, term.total, rtol=1e-5)
        assert terms[name].count == term.count
    np.testing.assert_array_equal(load, load_once)


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_every_mesh_gives_the_same_gradient_by_tiles(batch, expected, mesh):
    params, total, terms, _ = gradients(batch, mesh=mesh, head=in_tiles(5))
    assert_same((params, total), expected)
    _, _, whole, _ = gradients(batch, mesh=mesh)
    for name, term in whole.items():
        np.testing.assert_allclose(terms[name].total, term.total, rtol=1e-5)


CUTS = {f"blocks of {n}": in_blocks(n, VOCABULARY) for n in (1, 7, 96)} | {
    f"tiles of {n}": in_tiles(n) for n in (1, 4, 37)
}


@pytest.mark.parametrize("head", CUTS.values(), ids=CUTS)
def test_cuts_of_any_size_give_the_same_gradient(batch, expected, head):
    mesh = runtime.Mesh(data=1, tensor=8)
    params, total, _, _ = gradients(batch, mesh=mesh, head=head)
    assert_same((params, total), expected)
