"""Terms on views: one gradient however a batch is cut; the clean one at radius 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
from losses import LossTerm
from models import Ascent, ConvNet, Hidden, Views, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients

STUDENT = functools.partial(ConvNet, num_classes=3, widths=(4,), groups=2)
CE = losses.CrossEntropy()


def batch():
    draw = np.random.default_rng(0)
    return {
        "images": draw.random((8, 4, 4, 1)).astype(np.float32),
        "targets": draw.integers(0, 3, 8).astype(np.int32),
        "mask": np.arange(8) != 3,
        "segment_ids": np.ones(8, np.int32),
        "index": np.arange(8, dtype=np.int32),
    }


def gradients(terms, views, *, data=1, microbatches=1):
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=data), step=runtime.Step(microbatches=microbatches)
    )
    devices = mesh_lib.over(config.mesh, jax.devices()[:data])
    student = functools.partial(Views, model=STUDENT, views=views)
    modules = TrainModules(student, terms, optax.sgd(0.1))
    objective = Objective(modules, mesh=devices, config=config, seed=0)
    state = modules.create(0, devices, config.mesh.rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, config.mesh.rules):
            of_step = step_gradients(
                objective, state.params, state.variables, batch, jnp.int32(2)
            )
        values = {name: x.total / x.count for name, x in of_step.terms.items()}
        return of_step.params, values

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@pytest.mark.slow
def test_terms_on_views_are_the_same_however_a_batch_is_cut():
    views = {
        "linf": Ascent(radius=0.2, steps=2),
        "l1": Ascent(radius=1.0, steps=2, norm="l1", objective="divergence"),
        "part": Hidden(share=0.5),
    }
    aligned = {"view": "part", "dim": 4}
    terms = [
        LossTerm(name="max", loss=losses.WorstView(loss=CE, views=("linf", "l1"))),
        LossTerm(name="pair", loss=losses.LogitPairing(first="linf", second="l1")),
        LossTerm(name="margins", loss=losses.MarginShift(view="linf")),
        LossTerm(name="align", loss=functools.partial(losses.ViewAlignment, **aligned)),
        LossTerm(
            name="contrast", loss=functools.partial(losses.ViewContrast, **aligned)
        ),
    ]
    whole = gradients(terms, views)
    assert all(np.any(x) for x in jax.tree.leaves(whole[0]["losses"]["contrast"]))
    for cut in ({"microbatches": 4}, {"data": 4, "microbatches": 2}):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5),
            gradients(terms, views, **cut),
            whole,
        )


@pytest.mark.slow
def test_adversarial_training_at_radius_0_is_plain_training():
    views = {"attack": Ascent(radius=0.0), "real": Ascent(radius=0.3, steps=3)}
    attacked = LossTerm(name="ce", loss=losses.OnView(loss=CE, view="attack"))
    (params, values), (plain, clean) = (
        gradients([term], views) for term in (attacked, LossTerm(name="ce", loss=CE))
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7),
        (params["student"], values),
        (plain["student"], clean),
    )
    real = LossTerm(name="ce", loss=losses.OnView(loss=CE, view="real"))
    assert gradients([real], views)[1]["ce"] > clean["ce"] + 0.01
