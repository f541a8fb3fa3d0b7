"""One gradient on every mesh, by every number of microbatches and size of blocks.

`programs_test` holds five of these cuts to the textbook in `make test`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import MoE, Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from tests.heads import in_blocks, in_tiles
from tests.runner.step.inputs import VOCABULARY, assert_same
from tests.runner.step.programs import Readout

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
            found = step_gradients(
                objective, state.params, state.variables, batch, jnp.int32(5)
            )
        return found.params, found.total, found.terms, found.expert_load

    placed = jax.device_put(batch, mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@pytest.fixture(scope="module")
def expected(batch):
    """By plain autodiff of the whole, on one device, written out.

    Gradient and total; by term, its sum and count; the load of the experts.
    """
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
        share = jnp.einsum("bt,btle->le", tokens, chosen) / jnp.sum(tokens)
        p = jnp.einsum("bt,btle->le", tokens, jax.nn.softmax(router))
        p = p / jnp.sum(tokens)
        balance = 4 / 2 * jnp.mean(jnp.sum(share * p, axis=-1))
        line = params["losses"]["readout"]["line"]
        readout = jnp.square(trunk.intermediates["hidden/0"] @ line - 1.0)
        total = (
            mean(ce, mask)
            + 1.5e-2 * mean(z, mask)
            + 1e-2 * mean(router_z, tokens)
            + 0.5 * balance
            + 0.1 * mean(readout, mask)
        )
        values = {
            "ce": (ce, mask),
            "z_loss": (z, mask),
            "router_z": (router_z, tokens),
            "balance": (jnp.broadcast_to(balance, mask.shape), tokens),
            "readout": (readout, mask),
        }
        sums = {
            name: (jnp.sum(x * counts), jnp.sum(counts))
            for name, (x, counts) in values.items()
        }
        load = jnp.einsum("bt,btle->le", tokens, chosen)
        return total, (sums, load)

    (total, (sums, load)), params = jax.jit(
        jax.value_and_grad(objective, has_aux=True)
    )(state.params)
    return jax.device_get((params, total, sums, load))


MESHES = {
    "1x8": runtime.Mesh(data=8),
    "4x2": runtime.Mesh(data=4, fsdp=2),
    "2x2x2": runtime.Mesh(data=2, fsdp=2, tensor=2),
    "2x2 experts x2": runtime.Mesh(data=2, tensor=2, expert=2),
    "2x4": runtime.Mesh(data=2, tensor=4),
    "1, 8 tensors": runtime.Mesh(data=1, tensor=8),
}
SIZES = (1, 4, 5, 7, 37, 96)
HEADS = (
    {"whole": runtime.Head()}
    | {f"blocks of {n}": in_blocks(n, VOCABULARY) for n in SIZES}
    | {f"tiles of {n}": in_tiles(n) for n in SIZES}
)
# Every mesh; every way of running the head with every number of microbatches. A batch
# of 8 rows on 8 devices has but one.
COVERING = [
    ("1x8", "whole", 1),
    ("1x8", "blocks of 5", 1),
    ("4x2", "tiles of 5", 1),
    ("2x2x2", "blocks of 5", 2),
    ("2x2 experts x2", "tiles of 5", 2),
    ("2x4", "blocks of 7", 4),
    ("2x4", "whole", 4),
    ("1, 8 tensors", "tiles of 4", 4),
    ("1, 8 tensors", "whole", 2),
]
REST = [
    *((mesh, head, 1) for mesh in MESHES for head in ("blocks of 5", "tiles of 5")),
    *((mesh, "whole", 1) for mesh in MESHES),
    *(("2x4", "whole", microbatches) for microbatches in (2, 4)),
    *(("1, 8 tensors", f"blocks of {n}", 1) for n in (1, 7, 96)),
    *(("1, 8 tensors", f"tiles of {n}", 1) for n in (1, 4, 37)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "head", "microbatches"),
    [
        *COVERING,
        *(cut for cut in REST if cut not in COVERING),
    ],
)
def test_however_a_batch_is_cut_gradient_and_metrics_are_those_of_the_textbook(
    batch, expected, mesh, head, microbatches
):
    params, total, terms, load = gradients(
        batch, mesh=MESHES[mesh], head=HEADS[head], microbatches=microbatches
    )
    assert_same((params, total), expected[:2])
    for name, (sum_of_values, count) in expected[2].items():
        np.testing.assert_allclose(terms[name].total, sum_of_values, rtol=1e-5)
        assert terms[name].count == count
    np.testing.assert_array_equal(load, expected[3])
