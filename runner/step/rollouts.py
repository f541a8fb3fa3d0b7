"""Rows of a batch that the student writes itself, before the step that learns them."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from clu.metrics import LastValue, Metric
from jaxtyping import Array, Bool, Int, PRNGKeyArray, Shaped

from losses.weighting.weights import weight_at_step
from models import sharding
from models.base import Batch
from models.decoding.continuing import continue_rows
from models.transformer import Transformer
from runner.data.rollouts import DRAWN, OWN, Rollouts
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.state.train_state import AUTHOR, TrainState
from runner.state.trainable import TrainModules
from runner.step import next_token
from runner.step.arrays import TeacherState
from runner.teachers.base import LoadedTeacher

Metrics = Mapping[str, Metric]
Tree = Any

_STREAM = zlib.crc32(b"rollouts")  # of keys: none of the step's own


class CompiledRollouts:
    """`state, batch -> batch, metrics`: some rows continued by the student, compiled.

    A pure function of the seed, the step and the weights of the student, or of the
    older one that a state's memory has; and of the teacher's where it writes too.

    Args:
      modules: the student.
      rollouts: which rows, and how.
      mesh: the devices.
      rules: from logical axes to mesh axes.
      seed: of the experiment.
      teacher: the loaded one; None where there is none.
      frozen: reads its weights, or returns those that were read.

    Raises:
      UserError: the student is no text model, or the teacher that is to write.
    """

    def __init__(
        self,
        modules: TrainModules,
        rollouts: Rollouts,
        *,
        mesh: jax.sharding.Mesh,
        rules: sharding.Rules,
        seed: int,
        teacher: LoadedTeacher | None = None,
        frozen: Callable[[], Tree] = dict,
    ):
        self._modules, self._rollouts, self._seed = modules, rollouts, seed
        self._mesh, self._rules = mesh, rules
        self._teacher, self._frozen = teacher, frozen
        student = modules.abstract_student()
        if not isinstance(student, Transformer):
            raise UserError(
                f"train_data: a {type(student).__name__} writes no text, OnPolicy "
                "wants a student that is a models.Transformer"
            )
        if rollouts.teacher_share:
            next_token.writing_teacher(teacher)
        self._compiled = jax.jit(
            self._run, out_shardings=(mesh_lib.batch_sharding(mesh), None)
        )

    def __call__(self, state: TrainState, batch: Batch) -> tuple[Batch, Metrics]:
        """Return the batch with the rows that the student wrote, and what they are."""
        author = state.memory.get(AUTHOR)
        if author is None:
            author = {
                "params": state.params["student"],
                "variables": state.variables["student"],
            }
        return self._compiled(
            **author, batch=batch, step=state.step, teacher=self._arrays(state.teacher)
        )

    def write(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        step: Int[Array, ""],
        *,
        ema: Tree = None,
    ) -> tuple[Batch, Metrics]:
        """Return the same of other weights, or of another number than a step's.

        Args:
          params: As `TrainState.params`.
          variables: As `TrainState.variables`.
          batch: Arrays `[b ...]`.
          step: That draws are made for.
          ema: As `TrainState.teacher`.
        """
        return self._compiled(
            params=params["student"],
            variables=variables["student"],
            batch=batch,
            step=step,
            teacher=self._arrays(ema),
        )

    def _arrays(self, ema: Tree) -> TeacherState | None:
        """Return the teacher's arrays, where it writes too."""
        if not self._rollouts.teacher_share:
            return None
        return TeacherState(frozen=self._frozen(), ema=ema)

    def _run(
        self,
        *,
        params: object,
        variables: object,
        batch: Batch,
        step: Int[Array, ""],
        teacher: TeacherState | None,
    ) -> tuple[Batch, Metrics]:
        rollouts = self._rollouts
        with sharding.use(self._mesh, self._rules):
            writers = [self._modules.student(params, variables)]
            if teacher is not None:
                loaded = next_token.writing_teacher(self._teacher)
                writers.append(loaded.model(teacher.frozen, teacher.ema))
            key = jax.random.fold_in(jax.random.key(self._seed), _STREAM)
            key = jax.random.fold_in(key, step)
            own = chosen_rows(batch, rollouts, step, key)
            if rollouts.group > 1:
                batch, own = of_groups(batch, own, rollouts.group)
            some = _rows_at_most(rollouts, own.shape[0], self._mesh)
            head = {name: x[:some] for name, x in batch.items()}
            head, counts = continued(writers, head, own[:some], rollouts, key)
        if some == own.shape[0]:
            return head, _metrics(own, counts, head, rollouts)
        joined = {n: jnp.concatenate([x, batch[n][some:]]) for n, x in head.items()}
        return joined, _metrics(own, counts, head, rollouts)


def of_groups(
    batch: Batch, own: Bool[Array, " b"], group: int
) -> tuple[Batch, Bool[Array, " b"]]:
    """Return the batch and the rows to write, the first of a group in place of all.

    Raises:
      UserError: the rows are no multiple of a group.
    """
    rows = own.shape[0]
    if rows % group:
        raise UserError(
            f"train_data: group={group} does not divide the {rows} rows of a batch"
        )
    first = jnp.arange(rows) // group * group
    own = own[first]
    places = jnp.where(own, first, jnp.arange(rows))
    return {name: x[places] for name, x in batch.items()}, own


def chosen_rows(
    batch: Batch, rollouts: Rollouts, step: Int[Array, ""], key: PRNGKeyArray
) -> Bool[Array, " b"]:
    """Return the rows that the student is to write: the first of a batch.

    So many that their expectation is the fraction of the batch: the order of rows is a
    permutation anyway. A row without a target that counts is left as it is.
    """
    rows = batch["targets"].shape[0]
    fraction = jnp.clip(weight_at_step(rollouts.fraction, step, "fraction"), 0.0, 1.0)
    chance = jax.random.uniform(jax.random.fold_in(key, rows))  # no row's own key
    groups = rows // rollouts.group
    wanted = jnp.floor(fraction * groups + chance).astype(jnp.int32) * rollouts.group
    return (jnp.arange(rows) < wanted) & jnp.any(batch["mask"], axis=1)


def continued(
    writers: Sequence[Any],
    batch: Batch,
    own: Bool[Array, " b"],
    rollouts: Rollouts,
    key: PRNGKeyArray,
) -> tuple[dict[str, Shaped[Array, "b ..."]], Int[Array, " b"]]:
    """Return the batch with continuations in the rows `own`, and their lengths.

    Args:
      writers: the student, and the teacher where it writes too: `Transformer`s.
      batch: arrays `[b T]` of tokens, and columns `[b]`.
      own: the rows to write.
      rollouts: how.
      key: of the step; a row draws the same whatever rows are beside it.
    """
    rows, length = batch["tokens"].shape
    place, start = _prompt_ends(batch, rollouts.prompt_tokens)
    used = place - start + 1

    # Prompts, at the left; the student goes on as far as a row has room.
    width = rollouts.prompt_tokens or length
    at = jnp.minimum(start[:, None] + jnp.arange(width)[None], length - 1)
    prompts = jnp.take_along_axis(batch["tokens"], at, axis=1)
    room = jnp.minimum(rollouts.max_new_tokens, length - used + 1)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(rows))
    new = continue_rows(
        writers,
        prompts,
        used,
        limits=jnp.where(own, room, 0),
        num_tokens=rollouts.max_new_tokens,
        slots=length,
        choose=next_token.choice(rollouts, keys),
        ends=(rollouts.end,),
        at_once=rollouts.at_once,
        with_log_p=rollouts.with_log_probabilities,
    )
    counts = new.counts

    # Rows of the prompt and of what follows: each token's target is the next.
    index = jnp.arange(length + 1)[None]
    before = jnp.take(prompts, jnp.minimum(index[0], width - 1), axis=1)
    behind = jnp.clip(index - used[:, None], 0, rollouts.max_new_tokens - 1)
    after = jnp.take_along_axis(new.tokens, behind, axis=1)
    sequence = jnp.where(index < used[:, None], before, after)
    index = index[:, :-1]
    real = index < (used + counts - 1)[:, None]
    written = {
        "tokens": jnp.where(real, sequence[:, :-1], rollouts.end),
        "targets": jnp.where(real, sequence[:, 1:], rollouts.end),
        "mask": real & (index >= used[:, None] - 1),
        "segment_ids": real.astype(jnp.int32),
        "positions": jnp.where(real, index, 0),
    }
    if new.log_p is not None:
        drawn = jnp.take_along_axis(new.log_p, behind[:, 1:], axis=1)
        written[DRAWN] = jnp.where(written["mask"], drawn, 0.0)
    return _joined(batch, written, own, place), counts


def _prompt_ends(
    batch: Batch, prompt_tokens: int | None
) -> tuple[Int[Array, " b"], Int[Array, " b"]]:
    """Return the places of the last and first token of each row's prompt."""
    segments = batch["segment_ids"]
    place = jnp.argmax(batch["mask"], axis=1)
    if prompt_tokens is not None:  # padding, at the end of a row, is no prompt
        last = jnp.maximum(jnp.sum(segments > 0, axis=1) - 1, 0)
        place = jnp.minimum(prompt_tokens - 1, last)
    same = segments == jnp.take_along_axis(segments, place[:, None], axis=1)
    return place, jnp.argmax(same, axis=1)


def _joined(
    batch: Batch,
    written: Batch,
    own: Bool[Array, " b"],
    place: Int[Array, " b"],
) -> dict[str, Shaped[Array, "b ..."]]:
    """Return a batch of written rows and of the others.

    Of a column by document a written row has what stood at the end of its prompt.
    """
    joined = {OWN: own}
    for name, x in batch.items():
        if name == OWN or x.ndim == 1:
            joined.setdefault(name, x)
            continue
        at = place.reshape(-1, *(1,) * (x.ndim - 1))
        new = written.get(name, jnp.take_along_axis(x, at, axis=1))
        joined[name] = jnp.where(own[:, None], new.astype(x.dtype), x)
    return joined


def _rows_at_most(rollouts: Rollouts, rows: int, mesh: jax.sharding.Mesh) -> int:
    """Return how many rows of a batch may be written, a multiple of the devices'."""
    if callable(rollouts.fraction):
        return rows
    shards = mesh_lib.batch_shards(mesh)
    unit = math.lcm(shards, rollouts.group)
    return min(rows, unit * max(1, math.ceil(rollouts.fraction * rows / unit)))


def _metrics(
    own: Bool[Array, " b"],
    counts: Int[Array, " n"],
    batch: Batch,
    rollouts: Rollouts,
) -> dict[str, Metric]:
    written = jnp.sum(own, dtype=jnp.float32)
    targets = jnp.where(batch["mask"], batch["targets"], -1)
    ended = jnp.any(targets == rollouts.end, axis=1) & own[: counts.shape[0]]
    each = jnp.maximum(written, 1.0)
    scalars = {
        "rollouts/share": written / own.shape[0],
        "rollouts/length": jnp.sum(counts, dtype=jnp.float32) / each,
        "rollouts/ended": jnp.sum(ended, dtype=jnp.float32) / each,
    }
    return {name: LastValue.from_model_output(x) for name, x in scalars.items()}
