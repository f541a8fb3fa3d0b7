"""A teacher that sees the student's view: its own start, under the same attack."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses
import runner
from losses import LossTerm
from models import Ascent, ConvNet, Transformer, TwoTowers, Views, sharding
from runner import runtime
from runner.data.labels import Classes
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.arrays import TeacherState
from runner.step.objective import Objective
from runner.step.train_step import gradients
from runner.teachers import TeacherContext

TEXT = functools.partial(
    Transformer, vocab_size=256, dim=8, num_layers=1, num_heads=2, tie_head=True
)
STUDENT = functools.partial(
    Views,
    model=functools.partial(
        TwoTowers,
        image=functools.partial(ConvNet, widths=(4,), groups=2),
        text=TEXT,
        prompts=[["a"], ["b"]],
        dim=4,
    ),
    views={"attack": Ascent(radius=0.2, steps=2, objective="captions", group=4)},
)
TEACHER = runner.ViewTeacher(teacher=runner.StartTeacher(), view="attack")


def context(modules, config, mesh):
    return TeacherContext(
        vocabulary=Classes(names=("a", "b")),
        mesh=mesh,
        rules=config.mesh.rules,
        modules=modules,
    )


def batch():
    draw = np.random.default_rng(0)
    return {
        "images": draw.random((8, 4, 4, 1)).astype(np.float32),
        "captions": draw.integers(0, 256, (8, 3)).astype(np.int32),
        "targets": draw.integers(0, 2, 8).astype(np.int32),
        "mask": np.arange(8) != 3,
        "segment_ids": np.ones(8, np.int32),
        "index": np.arange(8, dtype=np.int32),
    }


def of_step(terms, *, data=1, microbatches=1):
    """The gradients of a student a step after its start, and the terms' values."""
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=data), step=runtime.Step(microbatches=microbatches)
    )
    mesh = mesh_lib.over(config.mesh, jax.devices()[:data])
    modules = TrainModules(
        STUDENT, terms, optax.sgd(0.1), TEACHER.init_state, ["image_tower/*"]
    )
    teacher = TEACHER.load(context(modules, config, mesh))
    objective = Objective(modules, mesh=mesh, config=config, seed=0, teacher=teacher)
    state = modules.create(0, mesh, config.mesh.rules)

    @jax.jit
    def compute(state, batch, moved):
        waves = jax.tree.map(
            lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape),
            state.params,
        )
        params = jax.tree.map(lambda x, y: x + moved * y, state.params, waves)
        with sharding.use(mesh, config.mesh.rules):
            of_batch = gradients(
                objective,
                params,
                state.variables,
                batch,
                jnp.int32(2),
                teacher=TeacherState(frozen={}, ema=state.teacher),
            )
        values = {name: x.total / x.count for name, x in of_batch.terms.items()}
        return of_batch.params["student"], values

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(mesh))
    return [jax.device_get(compute(state, placed, moved)) for moved in (0.0, 0.3)]


@pytest.mark.slow
def test_the_original_model_sees_the_attacked_images_however_a_batch_is_cut():
    logits = functools.partial(losses.ImageTextKL, view="attack")
    features = functools.partial(losses.FeatureShift, view="attack", of="image")
    of_each = {
        "clip": losses.ImageTextContrast(view="attack"),
        "logits_before": logits(beside="teacher/image"),
        "logits_clean": logits(),
        "features_before": features(beside="teacher/image"),
        "features_clean": features(),
    }
    terms = [LossTerm(name=name, loss=loss) for name, loss in of_each.items()]
    (_, at_start), (_, moved) = whole = of_step(terms)
    for name in ("logits", "features"):
        # At its start it is the original model: nothing but the attack is between.
        np.testing.assert_allclose(at_start[f"{name}_before"], 0.0, atol=1e-5)
        assert at_start[f"{name}_clean"] > 1e-3
        assert moved[f"{name}_before"] > 1e-3
    for cut in ({"microbatches": 2}, {"data": 4, "microbatches": 2}):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=5e-4, atol=5e-5),
            of_step(terms, **cut),
            whole,
        )


def test_a_view_that_the_student_has_not_is_refused():
    config = runtime.Runtime()
    mesh = mesh_lib.over(config.mesh, jax.devices()[:1])
    term = LossTerm(name="ce", loss=losses.CrossEntropy())
    modules = TrainModules(STUDENT, [term], optax.sgd(0.1))
    teacher = runner.ViewTeacher(teacher=runner.StartTeacher(), view="atack")
    with pytest.raises(UserError, match="no view 'atack'; did you mean 'attack'"):
        teacher.load(context(modules, config, mesh))
    with pytest.raises(UserError, match="it needs one"):
        teacher.load(context(None, config, mesh))
