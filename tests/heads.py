"""A head and nothing else, through the runner's own step, beside full logits.

For the gates (`tests/runner/head/gates_test.py`) and the benchmark
(`tests/benchmarks/head_bench.py`): hidden states are parameters, so that their gradient
is among those of the student.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType

import losses
from models import sharding
from models.base import Model, TrunkOutput
from models.kernels import projection
from runner import runtime
from runner.head import flops
from runner.head.plan import HeadPlan
from runner.machine import mesh as mesh_lib
from runner.state.trainable import TrainModules
from runner.step.arrays import TeacherState
from runner.step.objective import Objective
from runner.step.train_step import NO_MEMORY
from runner.step.train_step import gradients as step_gradients
from runner.teachers.base import LoadedTeacher, TeacherTrunk
from runner.teachers.model import LoadedModel

Tree = Any


class Size(NamedTuple):
    """Tokens N, the student's and teacher's width, vocabulary V, stored entries k."""

    tokens: int
    dim: int
    vocabulary: int
    teacher_dim: int = 0
    best: int = 0


class HeadAlone(Model):
    """Hidden states that are parameters, and a head."""

    reads = frozenset()

    def __init__(self, *, size: Size, dim: int, dtype: str = "float32", rngs: nnx.Rngs):
        del rngs
        self.dim, self.num_outputs = dim, size.vocabulary
        self.dtype = dtype
        self.hidden = nnx.Param(jnp.zeros((1, size.tokens, dim), dtype))
        self.table = nnx.Param(
            jnp.zeros((size.vocabulary, dim), dtype), axes=("vocab", "embed")
        )

    def trunk(self, batch, *, capture=frozenset(), remat="none") -> TrunkOutput:
        del batch, capture, remat
        return TrunkOutput(hidden=self.hidden[...], intermediates={})

    def head(self, hidden: jax.Array) -> jax.Array:
        return projection.logits(hidden, self.table[...], self.dtype)

    def offers(self) -> frozenset[str]:
        return frozenset()


class Fixed(LoadedModel):
    """A teacher of which only hidden states and the head are at hand."""

    def __init__(self, size: Size):
        module = nnx.eval_shape(
            lambda: HeadAlone(size=size, dim=size.teacher_dim, rngs=nnx.Rngs(0))
        )
        graph, params = nnx.split(module, nnx.Param)
        del params

        def make(params: Tree, variables: Tree) -> Model:
            del variables
            filled = nnx.state(module, nnx.Param)
            nnx.replace_by_pure_dict(filled, params)
            return nnx.merge(graph, filled)

        super().__init__(make, size.vocabulary)
        self._module = module

    def abstract_model(self) -> Model:
        return self._module

    def arrays(self, fixed: Tree, moving: Tree) -> Tree:
        del moving
        return {"params": fixed, "variables": {}}

    def describe(self) -> Mapping[str, Any]:
        return {}


class Recorded(LoadedTeacher):
    """The best entries of a teacher, as they lie in the batch."""

    def trunk(self, fixed, moving, batch, *, capture, logits) -> TeacherTrunk:
        del fixed, moving, batch, capture, logits

        def outputs(shared: Tree, tokens: Tree, batch: Tree) -> losses.TeacherOutputs:
            del shared, tokens
            return losses.TeacherOutputs(
                indices=batch["teacher/indices"],
                logits=batch["teacher/logits"],
                log_normalizers={1.0: batch["teacher/log_normalizer"]},
            )

        return TeacherTrunk(tokens={}, head_params={}, outputs=outputs)

    def describe(self) -> Mapping[str, Any]:
        return {}


def in_blocks(tokens: int, entries: int, *, planes: int = 1) -> runtime.Head:
    """Room for so many tokens of `entries` a device; planes as in `Terms`."""
    room = 4 * planes * entries * tokens
    return runtime.Head(
        memory_budget=room, block_memory=room, smallest_block=1, smallest_tile=32
    )


def in_tiles(entries: int) -> runtime.Head:
    """Room for less than anything, so many entries of the vocabulary at a time."""
    return runtime.Head(memory_budget=1, smallest_block=2**30, smallest_tile=entries)


def content(size: Size, *, seed: int = 0, dtype: str = "float32") -> Tree:
    """Params of student and teacher, and a batch, by names of `step`'s arguments."""
    random = np.random.default_rng(seed)

    def side(dim: int) -> Tree:
        hidden = random.normal(size=(1, size.tokens, dim))
        table = random.normal(size=(size.vocabulary, dim)) / np.sqrt(dim)
        return {
            "hidden": jnp.asarray(hidden, dtype),
            "table": jnp.asarray(table, dtype),
        }

    shape = (1, size.tokens)
    batch = {
        "targets": random.integers(0, size.vocabulary, shape).astype(np.int32),
        "mask": np.ones(shape, bool),
        "segment_ids": np.ones(shape, np.int32),
    }
    if size.best:
        batch |= _best(size, random)
    return {
        "student": side(size.dim),
        "teacher": side(size.teacher_dim) if size.teacher_dim else {},
        "batch": jax.tree.map(jnp.asarray, batch),
    }


def _best(size: Size, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Different ids for each token, and logits that fall off exponentially."""
    spacing = size.vocabulary // size.best
    shape = (1, size.tokens, size.best)
    ids = np.arange(size.best) * spacing + random.integers(0, spacing, shape)
    logits = -np.sort(random.exponential(2, shape)).astype(np.float32)
    logits -= logits[..., :1]
    log_mass = np.log(np.sum(np.exp(logits), axis=-1))
    return {
        "teacher/indices": random.permuted(ids, axis=-1).astype(np.int32),
        "teacher/logits": logits,
        "teacher/log_normalizer": (log_mass + 0.1).astype(np.float32),
    }


def step(
    size: Size,
    terms: Sequence[losses.LossTerm],
    *,
    dtype: str = "float32",
    head: runtime.Head,
    gradient_filter: float = 0.0,
) -> Callable[[Tree, Tree, Tree], tuple[jax.Array, Tree]]:
    """`student, teacher, batch -> (total, gradients)` as the runner computes them."""
    made = _objective(
        size, terms, dtype=dtype, head=head, gradient_filter=gradient_filter
    )
    return functools.partial(_run, *made)


def plan(
    size: Size, terms: Sequence[losses.LossTerm], *, head: runtime.Head
) -> HeadPlan:
    """How `step` cuts the head."""
    mesh, objective = _objective(size, terms, dtype="float32", head=head)
    given = shapes(size)

    def run(student: Tree, teacher: Tree, batch: Tree) -> HeadPlan:
        with sharding.use(mesh):
            return objective.head_plan(
                {"student": student, "losses": {}, "weights": {}},
                {"student": {}, "losses": {}},
                batch,
                teacher=TeacherState(frozen=teacher),
                memory=NO_MEMORY,
            )

    return jax.eval_shape(run, given["student"], given["teacher"], given["batch"])


def _run(
    mesh: jax.sharding.Mesh,
    objective: Objective,
    student: Tree,
    teacher: Tree,
    batch: Tree,
) -> tuple[jax.Array, Tree]:
    with sharding.use(mesh):
        found = step_gradients(
            objective,
            {"student": student, "losses": {}, "weights": {}},
            {"student": {}, "losses": {}},
            batch,
            jnp.int32(0),
            teacher=TeacherState(frozen=teacher),
        )
    return found.total, found.params["student"]


def _objective(
    size: Size,
    terms: Sequence[losses.LossTerm],
    *,
    dtype: str,
    head: runtime.Head,
    gradient_filter: float = 0.0,
) -> tuple[jax.sharding.Mesh, Objective]:
    mesh = jax.make_mesh(
        (1,) * len(mesh_lib.AXES),
        mesh_lib.AXES,
        axis_types=(AxisType.Auto,) * len(mesh_lib.AXES),
        devices=jax.devices()[:1],
    )
    config = runtime.Runtime(head=head)
    objective = Objective(
        TrainModules(
            lambda rngs: HeadAlone(size=size, dim=size.dim, dtype=dtype, rngs=rngs),
            terms,
            optax.identity(),
        ),
        mesh=mesh,
        config=config,
        seed=0,
        gradient_filter=gradient_filter,
        teacher=Fixed(size) if size.teacher_dim else Recorded() if size.best else None,
    )
    return mesh, objective


def full(
    value: Callable[[jax.Array, jax.Array | None, Tree], jax.Array],
) -> Callable[[Tree, Tree, Tree], tuple[jax.Array, Tree]]:
    """The same by autodiff of the mean of `value(logits, teacher logits, batch)`.

    In bfloat16, logits and their gradients are bfloat16, as in trainers.
    """

    def run(student: Tree, teacher: Tree, batch: Tree) -> tuple[jax.Array, Tree]:
        def logits(side: Tree) -> jax.Array:
            made = jnp.einsum("...d,vd->...v", side["hidden"], side["table"])
            return made.astype(jnp.float32)

        def mean(student: Tree) -> jax.Array:
            t = logits(teacher) if teacher else None
            return jnp.mean(value(logits(student), t, batch))

        return jax.value_and_grad(mean)(student)

    return run


def largest_array(jaxpr: Any) -> int:
    """Elements of the largest array that any equation makes, inner jaxprs included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [math.prod(getattr(x.aval, "shape", ())) for x in equation.outvars]
        sizes += [largest_array(inner) for inner in flops.inner_jaxprs(equation.params)]
    return max(sizes)


def shapes(size: Size, *, dtype: str = "float32") -> Tree:
    """`content` without the numbers."""

    def side(dim: int) -> Tree:
        return {
            "hidden": jax.ShapeDtypeStruct((1, size.tokens, dim), dtype),
            "table": jax.ShapeDtypeStruct((size.vocabulary, dim), dtype),
        }

    tokens = (1, size.tokens)
    batch = {"targets": np.int32, "mask": bool, "segment_ids": np.int32}
    batch = {name: jax.ShapeDtypeStruct(tokens, d) for name, d in batch.items()}
    if size.best:
        best = (*tokens, size.best)
        batch |= {
            "teacher/indices": jax.ShapeDtypeStruct(best, np.int32),
            "teacher/logits": jax.ShapeDtypeStruct(best, np.float32),
            "teacher/log_normalizer": jax.ShapeDtypeStruct(tokens, np.float32),
        }
    return {
        "student": side(size.dim),
        "teacher": side(size.teacher_dim) if size.teacher_dim else {},
        "batch": batch,
    }
