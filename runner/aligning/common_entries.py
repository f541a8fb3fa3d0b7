"""Distributions over one vocabulary, by the ids of another that shares tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import losses
from losses.core.outputs import log_sum_exp
from runner.aligning.shared_tokens import SharedTokens


@dataclasses.dataclass(frozen=True, eq=False)
class CommonEntries:
    """A teacher's outputs in the ids of a student.

    Attributes:
      teacher_ids: `[v]`, the teacher's id of each student id; of none, any.
      shared: `[v]` bool, which student ids have one.
      other_ids: `[u]`, the teacher's ids that no student id has.
      best: shared entries of a token.
      temperatures: those whose log-normalizers are wanted.
    """

    teacher_ids: np.ndarray
    shared: np.ndarray
    other_ids: np.ndarray
    best: int
    temperatures: tuple[float, ...]

    @classmethod
    def of(
        cls,
        tokens: SharedTokens,
        *,
        student: int,
        teacher: int,
        best: int,
        temperatures: tuple[float, ...],
    ) -> "CommonEntries":
        """Return them for vocabularies of two sizes.

        Args:
          tokens: that both have.
          student: ids of the student.
          teacher: ids of the teacher.
          best: at most; there may be fewer shared tokens.
          temperatures: of losses.
        """
        ids, shared = np.zeros(student, np.int32), np.zeros(student, bool)
        ids[tokens.student], shared[tokens.student] = tokens.teacher, True
        other = np.setdiff1d(np.arange(teacher, dtype=np.int32), tokens.teacher)
        best = min(best, len(tokens.student), student - 1)  # and a rest
        return cls(ids, shared, other, best, temperatures)

    def by_student(
        self, logits: Float[Array, "*b w"]
    ) -> tuple[Float[Array, "*b v"], Float[Array, "*b u"]]:
        """Return logits at the student's ids, -inf where it shares none; the others."""
        at_ids = jnp.take(logits, self.teacher_ids, axis=-1)
        return (
            jnp.where(jnp.broadcast_to(self.shared, at_ids.shape), at_ids, -jnp.inf),
            jnp.take(logits, self.other_ids, axis=-1),
        )

    def best_of(self, logits: Float[Array, "*b w"]) -> losses.TeacherOutputs:
        """Return the best shared entries and the rest of the whole distribution."""
        shared, other = self.by_student(logits)
        best, ids = jax.lax.top_k(shared, self.best)
        left = jnp.put_along_axis(shared, ids, -jnp.inf, axis=-1, inplace=False)
        rest = jnp.concatenate([left, other], axis=-1)
        return losses.TeacherOutputs(
            indices=ids,
            logits=best,
            log_normalizers={
                t: jax.nn.logsumexp(logits / t, axis=-1) for t in self.temperatures
            },
            log_rests={t: log_sum_exp(rest / t) for t in self.temperatures},
        )
