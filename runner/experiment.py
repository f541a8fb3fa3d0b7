"""The root of a graph: what is learnt, and nothing of how it is carried out."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import optax

from losses import LossTerm
from models.base import Model
from runner.teachers.base import Teacher

if TYPE_CHECKING:
    from runner.data import DataSource
    from runner.evaluation import Evaluation
    from runner.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A student, its teacher, the ordered list of weighted terms, and the data.

    student:     called with `rngs=`, under `jit`, straight into its shardings.
    teacher:     online, or records of one; None to learn from the data alone.
    batch_size:  sequences in a global batch, over all devices and microbatches.
    evaluations: what the student is measured by, on which data.

    Raises:
      ValueError: no term, two terms of one name, or a number below 1.
    """

    student: Callable[..., Model]
    losses: Sequence[LossTerm]
    train_data: "DataSource"
    optimizer: optax.GradientTransformation
    num_steps: int
    batch_size: int
    seed: int = 0
    teacher: Teacher | None = None
    evaluations: Sequence["Evaluation"] = ()

    def __post_init__(self):
        if not self.losses:
            raise ValueError("losses must hold at least one term")
        names = collections.Counter(term.name for term in self.losses)
        for name, count in names.items():
            if count > 1:
                raise ValueError(f"two loss terms are named {name!r}")
        for field in ("num_steps", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} must be at least 1, got {getattr(self, field)}"
                )

    def check(self) -> None:
        """Refuse terms that the student cannot serve; no array is made.

        Raises:
          UserError: a term needs what the student does not offer, or a teacher.
        """
        from runner.state import Learnt
        from runner.terms import check_needs, check_teacher

        learnt = Learnt(self.student, self.losses, self.optimizer)
        terms = learnt.abstract_terms()
        check_needs(terms, learnt.abstract_student().offers())
        if self.teacher is None:
            check_teacher(terms, None)

    def run(self, workdir: "Workdir") -> None:
        """Train to the last step, from the newest checkpoint if there is one."""
        from runner import loop

        loop.train(self, workdir)
