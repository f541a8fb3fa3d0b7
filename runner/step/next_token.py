"""The next token of rows that are written: the student's draw, or one of a mixture."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from models.decoding import draws
from models.decoding.continuing import Choose, Chosen
from models.transformer import Transformer
from runner.data.rollouts import Rollouts
from runner.errors import UserError
from runner.teachers.base import LoadedTeacher
from runner.teachers.model import LoadedModel


def writing_teacher(teacher: LoadedTeacher | None) -> LoadedModel:
    """Return a teacher that can be asked for a next token.

    Raises:
      UserError: it is another one, or there is none.
    """
    if isinstance(teacher, LoadedModel):
        if isinstance(teacher.abstract_model(), Transformer):
            return teacher
        kind = type(teacher.abstract_model()).__name__
    else:
        kind = "no teacher" if teacher is None else teacher.describe()["kind"]
    raise UserError(
        "train_data: teacher_share wants a teacher that can be asked for a next token, "
        f"a text model as OnlineTeacher; there is {kind}"
    )


def choice(rollouts: Rollouts, keys: Key[Array, " n"]) -> Choose:
    """Return what chooses the next token of some rows.

    Args:
      rollouts: how.
      keys: of every row of the batch.
    """
    choose = _of_mixture if rollouts.teacher_share else _of_student
    return functools.partial(choose, rollouts=rollouts, keys=keys)


def _of_student(
    logits: Sequence[Float[Array, "b v"]],
    rows: Int[Array, " b"],
    steps: Int[Array, " b"],
    *,
    rollouts: Rollouts,
    keys: Key[Array, " n"],
) -> Chosen:
    """Return a token a row, none beyond the ids of the data."""
    own = logits[0][..., : rollouts.vocab_size]
    if rollouts.temperature == 0:
        ids = draws.best(own)
        drawn = jnp.zeros(ids.shape, jnp.float32)  # of the only one there is
        return Chosen(ids, drawn if rollouts.with_log_probabilities else None)
    scores = draws.kept_logits(
        own,
        temperature=jnp.float32(rollouts.temperature),
        top_k=rollouts.top_k,
        top_p=None if rollouts.top_p is None else jnp.float32(rollouts.top_p),
    )
    ids = draws.draw(scores, keys[rows], steps)
    if not rollouts.with_log_probabilities:
        return Chosen(ids)
    log_q = jax.nn.log_softmax(scores.astype(jnp.float32))
    return Chosen(ids, jnp.take_along_axis(log_q, ids[:, None], axis=-1)[:, 0])


def _of_mixture(
    logits: Sequence[Float[Array, "b v"]],
    rows: Int[Array, " b"],
    steps: Int[Array, " b"],
    *,
    rollouts: Rollouts,
    keys: Key[Array, " n"],
) -> Chosen:
    """Return a token a row from `α p + (1 - α) q`, with its log-probability.

    Args:
      logits: of the student and of the teacher.
      rows: numbers in the batch.
      steps: tokens that each has.
      rollouts: how.
      keys: of every row of the batch.
    """
    log_q, log_p = (
        jax.nn.log_softmax(
            x[..., : rollouts.vocab_size].astype(jnp.float32) / rollouts.temperature
        )
        for x in logits
    )
    share = rollouts.teacher_share
    mixed = jnp.logaddexp(math.log(share) + log_p, math.log1p(-share) + log_q)
    ids = draws.draw(mixed, keys[rows], steps)
    return Chosen(ids, jnp.take_along_axis(mixed, ids[:, None], axis=-1)[:, 0])
