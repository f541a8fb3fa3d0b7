"""The head plan of an objective, from shapes."""

import jax

from models import sharding
from runner.head.plan import HeadPlan
from runner.step.train_step import NO_TEACHER


def head_plan(objective, mesh, state, batch) -> HeadPlan:
    """Return how `objective` cuts the head over a batch."""

    def plan(state, batch):
        with sharding.use(mesh):
            return objective.head_plan(
                state.params,
                state.variables,
                batch,
                teacher=NO_TEACHER,
                memory=state.memory,
            )

    return jax.eval_shape(plan, state, batch)
