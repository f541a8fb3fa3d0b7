"""Losses between layers of student and teacher, through the runner's step."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import losses
from losses import LossTerm, functional
from models import Transformer, VisionTransformer, sharding
from runner import runtime
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.arrays import TeacherState
from runner.step.compiled_step import CompiledStep
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from runner.teachers.model import LoadedModel
from tests.cases import cases
from tests.heads import in_blocks
from tests.models.states import stacked_values
from tests.runner.step.inputs import VOCABULARY, assert_same

MAP = ((0, 0), (1, 2))
small = functools.partial(Transformer, vocab_size=VOCABULARY, num_heads=2)
STUDENT = functools.partial(small, dim=16, num_layers=2)
TEACHER = functools.partial(small, dim=24, num_layers=3)
term = functools.partial(LossTerm, mask=losses.token_mask)
TERMS = (
    term(name="cka", loss=losses.CKA(layers=MAP), weight=2.0),
    term(
        name="features",
        loss=functools.partial(
            losses.Projected,
            loss=losses.FeatureMSE(layers=MAP),
            student_dim=16,
            teacher_dim=24,
        ),
        weight=0.5,
    ),
    term(name="attention", loss=losses.AttentionKL(layers=((1, 2),))),
    term(name="values", loss=losses.Relations(of="values", layers=((1, 2),), heads=4)),
    term(name="rows", loss=losses.SimilarityPreserving(layers=((1, 2),)), weight=3.0),
    term(name="pairs", loss=losses.InfoNCE(temperature=2.0), weight=0.3),
    term(
        name="graph",
        loss=losses.TokenGraph(layers=((1, 2),), tokens=3, neighbors=4, width=8.0),
        weight=2.0,
    ),
    term(
        name="tokens",
        loss=functools.partial(
            losses.TokenContrast,
            layers=((1, 2),),
            student_dim=16,
            teacher_dim=24,
            tokens=3,
        ),
        weight=0.2,
    ),
)


class Fixed(LoadedModel):
    """A teacher whose arrays are given."""

    def __init__(self, model=TEACHER):
        self._module = nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0)))
        graph, params = nnx.split(self._module)
        self.abstract = nnx.to_pure_dict(params)
        super().__init__(lambda params, _: nnx.merge(graph, params), VOCABULARY)

    def abstract_model(self):
        return self._module

    def arrays(self, fixed, moving):
        return {"params": fixed, "variables": {}}

    def describe(self):
        return {}


@functools.cache
def taught():
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(TEACHER(rngs=nnx.Rngs(7)))))()


def modules(terms=TERMS, **fields):
    return TrainModules(functools.partial(STUDENT, **fields), terms, optax.sgd(0.1))


def gradients(batch, *, mesh=None, head=None, microbatches=1, **fields):
    config = runtime.Runtime(
        mesh=mesh or runtime.Mesh(data=1, tensor=8),
        step=runtime.Step(microbatches=microbatches),
        head=head or runtime.Head(),
    )
    devices, rules = mesh_lib.make(config.mesh), config.mesh.rules
    made = modules(**fields)
    objective = Objective(made, mesh=devices, config=config, seed=0, teacher=Fixed())
    state = made.create(3, devices, rules)

    @jax.jit
    def compute(state, batch, fixed):
        with sharding.use(devices, rules):
            found = step_gradients(
                objective,
                state.params,
                state.variables,
                batch,
                jnp.int32(0),
                teacher=TeacherState(frozen=fixed),
            )
        return found.params, found.total

    placed = jax.device_put(batch, mesh_lib.batch_sharding(devices))
    params, total = jax.device_get(compute(state, placed, taught()))
    return {name: params[name] for name in ("student", "losses")}, total


@pytest.fixture(scope="module")
def expected(batch):
    """By plain autodiff of formulas over the whole batch, on one device."""
    made = modules()
    state = jax.jit(made.initial)(jax.random.key(3))
    names = ("hidden", "attention", "values")
    capture = frozenset(f"{n}/{i}" for n in names for i in range(3))
    teacher = nnx.merge(
        nnx.graphdef(nnx.eval_shape(lambda: TEACHER(rngs=nnx.Rngs(0)))), taught()
    )
    kept = np.flatnonzero(batch["segment_ids"] > 0)
    ids = batch["segment_ids"]
    seen = (ids[:, :, None] == ids[:, None]) & np.tri(ids.shape[1], dtype=bool)

    def tokens(x):
        return x.reshape(-1, *x.shape[2:])[kept]

    def norm(x):
        return jnp.sqrt(jnp.sum(jnp.square(x)))

    def cka(x, y):
        x, y = (z - jnp.mean(z, axis=0, keepdims=True) for z in (x, y))
        return norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y))

    def kl(t, s, seen):
        p, q = (jax.nn.softmax(jnp.where(seen, x, -1e9)) for x in (t, s))
        logs = [jnp.log(jnp.where(seen, x, 1.0)) for x in (p, q)]
        return jnp.sum(p * (logs[0] - logs[1]), axis=-1)

    def relation(x):
        parts = x.reshape(*ids.shape, 4, -1)
        return jnp.einsum("btad,bsad->btas", parts, parts) / math.sqrt(parts.shape[-1])

    def pooled(x, inside):
        weights = np.asarray(inside, np.float32)[..., None]
        return jnp.sum(x * weights, 1) / np.maximum(weights.sum(1), 1.0)

    def similarities(x):
        x = pooled(x, ids > 0)[np.flatnonzero(ids.max(1))]
        gram = x @ x.T
        return gram / jnp.sqrt(jnp.sum(jnp.square(gram), -1, keepdims=True))

    def contrasted(x):
        first, second = (pooled(x, ids == segment) for segment in (1, 2))
        both = np.flatnonzero(ids.max(1) == 2)
        scores = first[both] @ second[both].T / 2.0
        return jnp.mean(jax.nn.logsumexp(scores, axis=1) - jnp.diagonal(scores))

    def drawn(row):
        key = jax.random.fold_in(jax.random.key(0), 0)
        return jax.random.uniform(jax.random.fold_in(key, row), ids.shape[1:])

    ranks = np.where(ids > 0, jax.vmap(drawn)(np.arange(len(ids))), -1.0)
    best = np.argsort(-ranks, axis=1)[:, :3]
    there = np.take_along_axis(ranks, best, axis=1) >= 0.0

    def sampled(x):
        return jnp.take_along_axis(x, best[..., None], axis=1)[there]

    def objective(params):
        student = made.student(params["student"], state.variables["student"])
        trunk = student.trunk(
            batch, capture=frozenset(p for p in capture if not p.endswith("2"))
        )
        s = trunk.intermediates
        t = teacher.trunk(batch, capture=capture).intermediates
        pairs = [(tokens(s[f"hidden/{i}"]), tokens(t[f"hidden/{j}"])) for i, j in MAP]
        matrices = params["losses"]["features"]["projections"]
        projected = [
            jnp.mean(jnp.square(x @ matrices[f"hidden_{i}"] - y))
            for (x, y), (i, _) in zip(pairs, MAP, strict=True)
        ]
        wide = jnp.broadcast_to(seen[:, :, None], s["attention/1"].shape)
        attention = kl(t["attention/2"], s["attention/1"], wide)
        ours, theirs = relation(s["values/1"]), relation(t["values/2"])
        wide = jnp.broadcast_to(seen[:, :, None], ours.shape)
        of_tokens = sampled(s["hidden/1"]), sampled(t["hidden/2"])
        matrix = params["losses"]["tokens"]["projections"]["layer_1"]
        relations = [similarities(x) for x in (s["hidden/1"], t["hidden/2"])]
        return (
            2.0 * (1.0 - sum(cka(x, y) for x, y in pairs) / 2)
            + 0.5 * sum(projected) / 2
            + jnp.mean(tokens(attention))
            + jnp.mean(tokens(kl(theirs, ours, wide)))
            + 3.0 * jnp.mean(jnp.square(relations[0] - relations[1]))
            + 0.3 * contrasted(trunk.hidden)
            + 2.0 * functional.token_graph(*of_tokens, neighbors=4, width=8.0)
            + 0.2 * functional.token_contrast(of_tokens[0] @ matrix, of_tokens[1])
        )

    total, params = jax.jit(jax.value_and_grad(objective))(
        {name: state.params[name] for name in ("student", "losses")}
    )
    return jax.device_get((params, total))


CUTS = {
    "one device": {},
    "2x2x2": {"mesh": runtime.Mesh(data=2, fsdp=2, tensor=2)},
    "blocks of a row": {"head": in_blocks(12, VOCABULARY)},
    "microbatches": {"mesh": runtime.Mesh(data=2, tensor=4), "microbatches": 4},
}


@pytest.mark.parametrize("cut", cases(CUTS, fast=()))
def test_however_it_is_cut_the_gradient_is_that_of_the_whole(batch, expected, cut):
    # dear: the textbook and the step are two programs, of two models each.
    assert_same(gradients(batch, **cut), expected)


@pytest.mark.slow  # `stacked_test` trains both forms alike
def test_stacked_layers_give_the_same_gradient(batch, expected):
    params, total = gradients(batch, layers="stacked")
    wanted = {
        "student": stacked_values(expected[0]["student"]),
        "losses": expected[0]["losses"],
    }
    assert_same((params, total), (wanted, expected[1]))


def test_a_projection_is_trained_and_is_no_part_of_the_student():
    state = modules().abstract(mesh_lib.make(runtime.Mesh()), runtime.Mesh().rules)
    shapes = jax.tree.map(lambda x: x.shape, state.params["losses"])
    assert shapes == {
        "features": {"projections": {"hidden_0": (16, 24), "hidden_1": (16, 24)}},
        "tokens": {"projections": {"layer_1": (16, 24)}},
    }
    alone = nnx.eval_shape(lambda: STUDENT(rngs=nnx.Rngs(0)))
    of_the_student = len(jax.tree.leaves(state.params["student"]))
    assert of_the_student == len(jax.tree.leaves(nnx.state(alone)))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (((2, 2),), "needs 'hidden/2', which the student does not offer; did you mean"),
        (((1, 3),), "needs 'teacher/hidden/3', which the teacher does not offer; did"),
    ],
)
def test_a_layer_that_is_not_there_is_named_beside_the_nearest(pairs, message):
    wrong = (term(name="cka", loss=losses.CKA(layers=pairs)),)
    config = runtime.Runtime(mesh=runtime.Mesh())
    devices = mesh_lib.make(config.mesh)
    with pytest.raises(UserError, match=f"losses.cka: CKA {message}"):
        Objective(modules(wrong), mesh=devices, config=config, seed=0, teacher=Fixed())


OWN = functools.partial(
    losses.OwnHead, loss=losses.ForwardKL(), dim=8, num_outputs=VOCABULARY
)


def step(batch, *terms, teacher=None):
    config = runtime.Runtime(mesh=runtime.Mesh(data=1, tensor=8))
    step = CompiledStep(
        modules(terms),
        mesh=mesh_lib.make(config.mesh),
        config=config,
        seed=0,
        teacher=teacher or Fixed(),
    )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    return functools.partial(step.trace, shapes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            term(name="maps", loss=losses.FeatureMSE(layers=MAP)),
            "FeatureMSE: the student has 16 features in hidden and the teacher 24",
        ),
        (
            term(name="own", loss=OWN),
            "OwnHead(dim=8) reads hidden states of width 16",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_one_line_before_the_first_step(
    batch, wrong, message
):
    with pytest.raises(UserError) as refused:
        step(batch, wrong)()
    assert message in str(refused.value)
    assert str(refused.value).count("\n") == 0


def test_a_teacher_that_cannot_read_the_data_is_one_line(batch):
    sees = functools.partial(VisionTransformer, num_classes=VOCABULARY)
    with pytest.raises(UserError, match="teacher: VisionTransformer reads images"):
        step(batch, term(name="kd", loss=losses.ForwardKL()), teacher=Fixed(sees))()
