"""On a vocabulary that is sharded, what crosses devices within a block or a tile."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from tests import heads
from tests.runner.head.plans import head_plan

VOCABULARY, DIM, ROWS, LENGTH = 512, 16, 8, 16
TERMS = (
    LossTerm(name="ce", loss=losses.CrossEntropy()),
    LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-2),
)
CUTS = {"fast": heads.in_blocks(8, VOCABULARY // 4), "lean": heads.in_tiles(64)}
COLLECTIVE = re.compile(
    r"= \(?(?:f32|s32|pred|bf16)\[([\d,]*)\]\S* "
    r"(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
)


@pytest.mark.parametrize("head", CUTS.values(), ids=CUTS)
def test_only_maxima_and_sums_of_tokens_cross_devices(head):
    config = runtime.Runtime(mesh=runtime.Mesh(data=2, tensor=4), head=head)
    mesh = mesh_lib.make(config.mesh)
    student = functools.partial(
        Transformer, vocab_size=VOCABULARY, dim=DIM, num_layers=1, num_heads=2
    )
    modules = TrainModules(student, TERMS, optax.identity())
    objective = Objective(modules, mesh=mesh, config=config, seed=0)

    def gradients(state, batch):
        with sharding.use(mesh, config.mesh.rules):
            found = step_gradients(
                objective, state.params, state.variables, batch, jnp.int32(0)
            )
        return found.params, found.total

    placed = mesh_lib.batch_sharding(mesh)
    names = {"tokens": np.int32, "targets": np.int32, "mask": bool}
    names |= {"segment_ids": np.int32, "positions": np.int32}
    batch = {
        name: jax.ShapeDtypeStruct((ROWS, LENGTH), dtype, sharding=placed)
        for name, dtype in names.items()
    }
    state = modules.abstract(mesh, config.mesh.rules)
    text = jax.jit(gradients).lower(state, batch).compile().as_text()
    planned = head_plan(objective, mesh, state, batch)
    found = [
        (kind, math.prod(int(n) for n in shape.split(",") if n))
        for line in text.splitlines()
        if "while/body" in line
        for shape, kind in COLLECTIVE.findall(line)
    ]
    assert found
    assert {kind for kind, _ in found} == {"all-reduce"}
    assert max(size for _, size in found) <= planned.tokens * DIM
