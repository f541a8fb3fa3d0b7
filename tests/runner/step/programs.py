"""One student, every kind of term, and the cuts of a batch, each compiled once.

A term is held to plain autodiff on its own in the file of its kind; here all of them
share one program a cut, as in a run.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import losses
from losses import Group, LossTerm, MatchValue
from models import MoE, Transformer, sharding
from runner import runtime
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.arrays import TeacherState
from runner.step.objective import Objective
from runner.step.train_step import gradients as step_gradients
from runner.teachers.base import LoadedTeacher, TeacherTrunk
from tests.heads import in_blocks, in_tiles
from tests.runner.step.inputs import VOCABULARY, ragged

DIM, TEACHER_DIM, EXPERTS, BEST, STEP = 16, 6, 4, 4, 5


class Readout(losses.Loss, nnx.Module):
    """A loss with a parameter: a line through a hidden layer should read 1."""

    needs = frozenset({"hidden/0"})

    def __init__(self, *, rngs):
        self.line = nnx.Param(jax.random.normal(rngs.params(), (DIM,)))

    def __call__(self, outputs):
        return jnp.square(outputs.intermediates["hidden/0"] @ self.line[...] - 1.0)


class InTheBatch(LoadedTeacher):
    """A teacher whose best entries and hidden states lie in the batch."""

    def offers(self):
        return frozenset({"hidden/0"})

    def trunk(self, frozen, ema, batch, *, capture, logits) -> TeacherTrunk:
        del frozen, ema, batch, capture, logits

        def outputs(shared, tokens, batch):
            del shared, tokens
            return losses.TeacherOutputs(
                indices=batch["teacher/indices"],
                logits=batch["teacher/logits"],
                log_normalizers={1.0: batch["teacher/log_normalizer"]},
                intermediates={"hidden/0": batch["teacher/hidden"]},
            )

        return TeacherTrunk(tokens={}, head_params={}, outputs=outputs)

    def describe(self):
        return {}


STUDENT = functools.partial(
    Transformer,
    vocab_size=VOCABULARY,
    dim=DIM,
    num_layers=2,
    num_heads=2,
    tie_head=True,
    mlp=functools.partial(
        MoE, num_experts=EXPERTS, experts_per_token=2, hidden_dim=DIM
    ),
)
TILED = (
    LossTerm(
        name="ce",
        loss=losses.CrossEntropy(),
        token_weight=losses.RelativeLoss(form="extremes"),
    ),
    Group(
        name="calm",
        weight=MatchValue(to="ce", scale=0.1),
        terms=[LossTerm(name="z_loss", loss=losses.ZLoss(), weight=0.5)],
    ),
    LossTerm(
        name="kd",
        loss=losses.ForwardKL(),
        weight=optax.linear_schedule(1.0, 2.0, 10),
    ),
    LossTerm(
        name="features",
        loss=functools.partial(
            losses.Projected,
            loss=losses.FeatureMSE(layers=((0, 0),)),
            student_dim=DIM,
            teacher_dim=TEACHER_DIM,
        ),
        weight=0.5,
    ),
    LossTerm(
        name="router_z",
        loss=losses.RouterZLoss(),
        weight=1e-2,
    ),
    LossTerm(name="balance", loss=losses.LoadBalance(), weight=0.5),
    LossTerm(name="readout", loss=Readout, weight=0.1),
)
OWN_HEAD = LossTerm(
    name="own",
    loss=functools.partial(
        losses.OwnHead, loss=losses.ForwardKL(), dim=DIM, num_outputs=VOCABULARY
    ),
    weight=0.7,
)
# A head of a term's own reads rows.
LISTS = {"rows": (*TILED, OWN_HEAD), "tiled": TILED}

# By cut: the list, the mesh, the head, microbatches. Blocks of 5 leave the last block
# of a device's 24 tokens with padding.
CUTS = {
    "data": ("rows", runtime.Mesh(data=8), runtime.Head(), 1),
    "blocks": (
        "rows",
        runtime.Mesh(data=2, fsdp=2, tensor=2),
        in_blocks(5, VOCABULARY, planes=6),
        1,
    ),
    "tiles": ("tiled", runtime.Mesh(data=2, fsdp=2, tensor=2), in_tiles(5), 2),
    "microbatches": ("rows", runtime.Mesh(data=2, tensor=4), runtime.Head(), 4),
    "expert": ("tiled", runtime.Mesh(data=2, tensor=2, expert=2), in_tiles(5), 2),
}


@functools.cache
def batch():
    """The ragged batch, with a teacher's outputs in it."""
    rows = ragged()
    draw = np.random.default_rng(1)
    shape = rows["tokens"].shape
    logits = draw.normal(size=(*shape, VOCABULARY), scale=2).astype(np.float32)
    best = np.argsort(-logits, axis=-1)[..., :BEST]
    return rows | {
        "teacher/indices": best.astype(np.int32),
        "teacher/logits": np.take_along_axis(logits, best, axis=-1),
        "teacher/log_normalizer": np.log(np.sum(np.exp(logits), axis=-1)),
        "teacher/hidden": draw.normal(size=(*shape, TEACHER_DIM)).astype(np.float32),
    }


@functools.cache
def modules(terms):
    """The student with a list of terms."""
    return TrainModules(STUDENT, LISTS[terms], optax.sgd(0.1))


@functools.cache
def gradients(cut):
    """What the step makes of the batch, cut so, on the host."""
    terms, mesh, head, microbatches = CUTS[cut]
    config = runtime.Runtime(
        mesh=mesh, step=runtime.Step(microbatches=microbatches), head=head
    )
    devices, rules = mesh_lib.make(mesh), mesh.rules
    objective = Objective(
        modules(terms), mesh=devices, config=config, seed=0, teacher=InTheBatch()
    )
    state = modules(terms).create(3, devices, rules)

    @jax.jit
    def compute(state, batch):
        with sharding.use(devices, rules):
            grads = step_gradients(
                objective,
                state.params,
                state.variables,
                batch,
                jnp.int32(STEP),
                teacher=TeacherState(),
                memory=state.memory,
            )
        return (
            grads.params,
            grads.total,
            grads.terms,
            grads.weights,
            grads.expert_load,
        )

    placed = jax.device_put(batch(), mesh_lib.batch_sharding(devices))
    return jax.device_get(compute(state, placed))


@functools.cache
def _textbook():
    """`textbook` of all terms, jitted, of the own head's weight and the parameters."""
    state = _initial()
    rows = batch()
    mask = rows["mask"].astype(np.float32)
    tokens = (rows["segment_ids"] > 0).astype(np.float32)

    def mean(values, mask):
        return jnp.sum(values * mask) / jnp.sum(mask)

    def row_weights(values):
        """`b · softmax(|h|)`, h being the mean of a row, put between -1 and 1."""
        counts = jnp.sum(mask, axis=1)
        of_row = jnp.sum(values * mask, axis=1) / jnp.maximum(counts, 1.0)
        counted = counts > 0
        most = jnp.max(jnp.where(counted, of_row, -jnp.inf))
        least = jnp.min(jnp.where(counted, of_row, jnp.inf))
        h = jnp.clip((2 * of_row - most - least) / (most - least), -1.0, 1.0)
        share = jax.nn.softmax(jnp.where(counted, jnp.abs(h), -jnp.inf))
        return jax.lax.stop_gradient(share * jnp.sum(counted, dtype=jnp.float32))[
            :, None
        ]

    def kl(logits):
        """From the best entries, all others being one."""
        log_q = jax.nn.log_softmax(logits)
        log_q = jnp.take_along_axis(log_q, rows["teacher/indices"], axis=-1)
        log_p = rows["teacher/logits"] - rows["teacher/log_normalizer"][..., None]
        p, q = jnp.exp(log_p), jnp.exp(log_q)
        rest_p, rest_q = 1 - jnp.sum(p, axis=-1), 1 - jnp.sum(q, axis=-1)
        inner = jnp.sum(p * (log_p - log_q), axis=-1)
        return inner + rest_p * (jnp.log(rest_p) - jnp.log(rest_q))

    def objective(params, own_weight):
        student = modules("rows").student(params["student"], state.variables["student"])
        capture = frozenset({"router_logits", "router_assignments", "hidden/0"})
        trunk = student.trunk(rows, capture=capture)
        logits = student.head(trunk.hidden)
        hidden = trunk.intermediates["hidden/0"]
        router = trunk.intermediates["router_logits"]
        owned = params["losses"]

        chosen = jax.nn.one_hot(trunk.intermediates["router_assignments"], EXPERTS)
        chosen = jnp.sum(chosen, axis=-2)
        share = jnp.einsum("bt,btle->le", tokens, chosen) / jnp.sum(tokens)
        p = jnp.einsum("bt,btle->le", tokens, jax.nn.softmax(router))
        p = p / jnp.sum(tokens)
        balance = EXPERTS / 2 * jnp.mean(jnp.sum(share * p, axis=-1))
        projected = hidden @ owned["features"]["projections"]["hidden_0"]
        ce = optax.softmax_cross_entropy_with_integer_labels(logits, rows["targets"])
        values = {
            "ce": (ce, mask),
            "z_loss": (jnp.square(jax.nn.logsumexp(logits, axis=-1)), mask),
            "kd": (kl(logits), mask),
            "features": (
                jnp.mean(jnp.square(projected - rows["teacher/hidden"]), axis=-1),
                mask,
            ),
            "router_z": (
                jnp.mean(jnp.square(jax.nn.logsumexp(router, axis=-1)), axis=-1),
                tokens,
            ),
            "balance": (jnp.broadcast_to(balance, mask.shape), tokens),
            "readout": (jnp.square(hidden @ owned["readout"]["line"] - 1.0), mask),
        }
        last = owned["own"]["last"]
        own = trunk.hidden @ last["kernel"] + last["bias"].reshape((1, 1, -1))
        values["own"] = (kl(own), mask)

        means = {name: mean(*value) for name, value in values.items()}
        means["ce"] = mean(ce * row_weights(ce), mask)
        calm = 0.5 * means["z_loss"]
        match = jax.lax.stop_gradient(0.1 * means["ce"] / calm)
        total = (
            means["ce"]
            + match * calm
            + 1.5 * means["kd"]
            + 0.5 * means["features"]
            + 1e-2 * means["router_z"]
            + 0.5 * means["balance"]
            + 0.1 * means["readout"]
            + own_weight * means["own"]
        )
        sums = {
            name: (jnp.sum(x * counts), jnp.sum(counts))
            for name, (x, counts) in values.items()
        }
        load = jnp.einsum("bt,btle->le", tokens, chosen)
        return total, (sums, match, load)

    return jax.jit(jax.value_and_grad(objective, has_aux=True))


@functools.cache
def _initial():
    """The state of all terms before the first step."""
    return jax.jit(modules("rows").initial)(jax.random.key(3))


@functools.cache
def textbook(terms):
    """By plain autodiff of the whole, on one device, written out.

    Gradient and total; by term, its sum and count; weight of the group; expert load.
    """
    own_weight = np.float32(0.7 if terms == "rows" else 0.0)
    (total, (sums, match, load)), params = jax.device_get(
        _textbook()(_initial().params, own_weight)
    )
    if terms == "tiled":
        del sums["own"], params["losses"]["own"]
    return params, total, sums, match, load
