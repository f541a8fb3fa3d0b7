"""The cut of a microbatch into token blocks, for the head and all terms.

`runner.head.plan` bounds how much of the logits exists at once. What is known of the
head and the terms alone is found out once, for all microbatches.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax

from losses import LossTerm, OwnHead
from models import sharding
from runner import runtime
from runner.head import plan as head_plan
from runner.head.head import Head
from runner.head.plan import HeadPlan
from runner.head.token_blocks import TokenBlocks
from runner.machine.mesh import batch_shards
from runner.step.arrays import BlockConstants, BlockTokens, HeadParams, StepInputs
from runner.step.requirements import head_paths, scopes
from runner.step.trunk_pass import StudentTrunk

Tree = Any
Block = tuple[BlockTokens, BlockConstants]
Shared = tuple[HeadParams, StepInputs]


class HeadBlocks:
    """Cut of a head over a mesh, for the terms of an experiment.

    Attributes:
      head: the student's.
      terms: in the order of the experiment.
      reads_logits: whether any term does.
      vocab_shards: devices that the vocabulary is spread over.
    """

    def __init__(
        self,
        head: Head,
        terms: Sequence[LossTerm],
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
    ):
        self.head, self.terms = head, terms
        self.reads_logits = any("logits" in term.needs for term in terms)
        with sharding.use(mesh, config.mesh.rules):
            self.vocab_shards = head.vocab_shards()
        self._mesh, self._config = mesh, config.head
        self._batch_shards = batch_shards(mesh)
        self._scopes = scopes(terms) or {"token"}
        self._linear = head.is_linear
        own = sum(isinstance(term.loss, OwnHead) for term in terms)
        self._more_heads = own + len(head_paths(terms))

    def plan(self, trunk: StudentTrunk, *, tileable: bool) -> HeadPlan:
        """Return how the head of this trunk is cut: a function of shapes alone.

        Args:
          trunk: the microbatch after its trunk.
          tileable: whether tiles of the vocabulary will do, in place of whole rows.
        """
        axes = trunk.token_axes
        tokens = math.ceil(math.prod(axes) / self._batch_shards)
        together = {"token": 1, "sequence": math.prod(axes[1:]), "batch": tokens}
        cost = head_plan.HeadCost(
            sides=1 + self._teacher_sides(trunk) + self._more_heads,
            tileable=tileable,
            linear=self._linear,
            together=max(together[scope] for scope in self._scopes),
        )
        entries = self.head.num_outputs // self.vocab_shards
        return head_plan.choose(self._config, cost, tokens=tokens, entries=entries)

    def _teacher_sides(self, trunk: StudentTrunk) -> int:
        """Return the whole logits of a teacher, in rows of the student's."""
        teacher = trunk.teacher
        if teacher is None or not teacher.full_logits:
            return 0
        width = teacher.width or self.head.num_outputs
        return math.ceil(width / self.head.num_outputs)

    def cut(self, trunk: StudentTrunk, plan: HeadPlan) -> TokenBlocks:
        """Return the blocks of a plan."""
        return TokenBlocks(
            mesh=self._mesh,
            token_axes=trunk.token_axes,
            size=plan.tokens,
            whole_rows=self._scopes != {"token"},
        )

    def shared(self, params: Tree, inputs: StepInputs, trunk: StudentTrunk) -> Shared:
        """Return what every block reads: differentiated, and not.

        Args:
          params: as `TrainState.params`.
          inputs: without the teacher's head.
          trunk: the microbatch after its trunk.
        """
        head_params = HeadParams(
            head=self.head.leaves(params["student"]), losses=params["losses"]
        )
        student = self.head.variables(inputs.variables["student"])
        inputs = dataclasses.replace(
            inputs, variables={**inputs.variables, "student": student}
        )
        if trunk.teacher is None:
            return head_params, inputs
        return head_params, inputs.with_teacher_head(trunk.teacher.head_params)
