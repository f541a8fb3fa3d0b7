"""The objective of an experiment on a mesh: its terms, checked, and their passes."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from losses.core.masks import TaughtMask, token_masks
from losses.core.of_rows import PLACE
from losses.core.outputs import TEACHER
from losses.core.terms import LossTerm
from losses.weighting.weights import may_vanish
from models.base import ROW_SEED, Batch
from models.running.state import RUNNING
from models.views import with_views
from runner import runtime
from runner.head.head import Head
from runner.head.plan import HeadPlan
from runner.state.trainable import TrainModules
from runner.step import expert_load, microbatches, running
from runner.step.arrays import StepInputs, TeacherState, Tokens
from runner.step.block_outputs import BlockEvaluator
from runner.step.head_blocks import HeadBlocks
from runner.step.head_gradients import HeadGradients
from runner.step.head_values import HeadValues
from runner.step.prepass import PrePass, RunTrunk
from runner.step.requirements import (
    capture,
    capture_of_teacher,
    check_balances,
    check_needs,
    check_scope,
    check_teacher,
    head_paths,
    masks_read,
    reads_logits,
    wants_teacher_logits,
)
from runner.step.trunk_pass import StudentTrunk, forward
from runner.teachers.base import LoadedTeacher

Tree = Any


class Objective:
    """`Σ_i w_i / N_i Σ mask·value` of a student's terms over a mesh.

    Attributes:
      modules: student and terms, without their arrays.
      terms: in order.
      counted: the same with masks of the tokens that each counts: where the teacher
        scored some alone, those.
      head: the student's.
      head_gradients: the head and all terms, forward and backward.
      head_values: their read-only passes.
      prepass: passes over the batch before its gradients.
      accumulate: `fn, tokens` to `Σ fn(microbatch)`, by a scan over the microbatches.
      has_experts: whether the student shows its routers.
      expert_biases: those of the student that follow the load.
      running: state of the student that follows its batches; none where it is not
        trained, and its trunk then reads that state.
      num_microbatches: of a step.
      teacher_has_experts: whether the teacher does.
      mesh: the devices.
      head_config: the memory that the head may take.

    Raises:
      UserError: a term needs what the model does not offer, or cannot be cut so.
    """

    def __init__(
        self,
        modules: TrainModules,
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
        seed: int,
        teacher: LoadedTeacher | None = None,
        gradient_filter: float = 0.0,
        training: bool = True,
    ):
        self.modules, self.terms = modules, modules.abstract_terms()
        self.mesh, self.head_config = mesh, config.head
        self._config, self._teacher = config.step, teacher

        # Refuse what cannot be served before anything is traced.
        student = modules.abstract_student()
        offered = student.offers()
        check_balances(modules.items)
        check_needs(self.terms, offered)
        check_teacher(self.terms, teacher)
        check_scope(self.terms, mesh=mesh, microbatches=config.step.microbatches)

        # Expert load is logged wherever there are experts, whatever the terms need.
        teacher_offers = frozenset() if teacher is None else teacher.offers()
        self.has_experts = offered >= expert_load.NEEDS
        self.expert_biases = expert_load.biases(student)
        self.running = running.places(student) if training else []
        self.num_microbatches = config.step.microbatches
        self.teacher_has_experts = teacher_offers >= expert_load.NEEDS
        self._capture = capture(self.terms) | (expert_load.NEEDS & offered)
        if self.running:
            self._capture |= {RUNNING}
        self._teacher_capture = capture_of_teacher(self.terms)
        if self.teacher_has_experts:
            self._teacher_capture |= expert_load.NEEDS

        # A teacher that scored some tokens alone teaches those.
        self.counted = self.terms
        if teacher is not None and teacher.stored and teacher.stored.partial:
            self.counted = [_where_taught(term) for term in self.terms]

        self._reads_rows = any(term.loss.reads_rows for term in self.terms)
        self._draws, self._seed = student.draws, seed

        # The head and the terms, in blocks of tokens.
        self.head = Head.of(modules)
        blocks = HeadBlocks(self.head, self.terms, mesh=mesh, config=config)
        evaluator = BlockEvaluator(
            modules,
            self.head,
            seed,
            gradient_filter,
            readers=frozenset(t.name for t in self.terms if reads_logits(t)),
            reads=masks_read(self.terms),
            head_paths=tuple(head_paths(self.terms)),
            may_vanish=may_vanish(modules.items),
            masks={
                term.name: term.mask
                for own, term in zip(self.terms, self.counted, strict=True)
                if term.mask is not own.mask and term.mask is not None
            },
        )
        self.head_gradients = HeadGradients(blocks, evaluator)
        self.head_values = HeadValues(blocks, evaluator)
        over = {"count": config.step.microbatches, "mesh": mesh}
        self.accumulate = functools.partial(microbatches.accumulate, **over)
        self.prepass = PrePass(
            modules.items,
            self.head_values,
            accumulate=self.accumulate,
            collect=functools.partial(microbatches.collect, **over),
        )

    def count(
        self, variables: Tree, batch: Batch, step: Int[Array, ""]
    ) -> tuple[Tokens, StepInputs]:
        """Return the masks of the terms and their counts over the global batch.

        Raises:
          IncompatibleLoss: a mask is not one bool for each token.
        """
        masks = token_masks(self.counted, batch)
        counts = {n: jnp.sum(m, dtype=jnp.float32) for n, m in masks.items()}
        num_rows = len(batch["targets"])
        if self._reads_rows:
            batch = {**batch, PLACE: jnp.arange(num_rows, dtype=jnp.int32)}
        if self._draws:
            key = jax.random.fold_in(jax.random.key(self._seed), step)
            seeds = jax.random.bits(jax.random.fold_in(key, 1), (num_rows,))
            batch = {**batch, ROW_SEED: seeds}
        return (
            Tokens(batch=batch, masks=masks),
            StepInputs(
                variables=variables, step=step, counts=counts, num_rows=num_rows
            ),
        )

    def trunk_runner(
        self, params: Tree, variables: Tree, tokens: Tokens, teacher: TeacherState
    ) -> RunTrunk:
        """Return the trunks of student and teacher as a function of a microbatch.

        One microbatch runs here, once, however many passes read it. Of several, one is
        held at a time, and every pass runs its trunk again.
        """

        def run(tokens: Tokens) -> StudentTrunk:
            return self._trunk(params, variables, tokens, teacher)

        if self._config.microbatches > 1:
            return run
        return run(tokens).with_weights_of

    def head_plan(
        self,
        params: Tree,
        variables: Tree,
        batch: Batch,
        *,
        teacher: TeacherState,
        memory: Tree,
    ) -> HeadPlan:
        """Return how the head of each microbatch is cut: a function of shapes alone."""
        tokens, inputs = self.count(variables, batch, jnp.int32(0))
        run_trunk = self.trunk_runner(params, variables, tokens, teacher)
        result = self.prepass(params, inputs, tokens, memory["tokens"], run_trunk)
        # Any numbers do for the scales; the first microbatch stands for all.
        inputs = dataclasses.replace(result.inputs, scales=inputs.counts)
        count = self._config.microbatches
        first = jax.tree.map(lambda x: x[: x.shape[0] // count], result.tokens)
        return self.head_gradients.plan(params, inputs, run_trunk(first))

    def _trunk(
        self, params: Tree, variables: Tree, tokens: Tokens, teacher: TeacherState
    ) -> StudentTrunk:
        teacher_trunk = None
        if self._teacher is not None and self._teacher.views:
            student = self.modules.student(params["student"], variables["student"])
            batch = with_views(student, tokens.batch, self._teacher.views)
            tokens = dataclasses.replace(tokens, batch=batch)
        if self._teacher is not None:
            teacher_trunk = self._teacher.trunk(
                teacher.frozen,
                teacher.ema,
                tokens.batch,
                capture=self._teacher_capture,
                logits=wants_teacher_logits(self.terms),
            )
        return forward(
            self.modules,
            params["student"],
            variables["student"],
            tokens,
            capture=self._capture,
            remat=self._config.remat,
            teacher=teacher_trunk,
        )


def _where_taught(term: LossTerm) -> LossTerm:
    """Return a term that counts the tokens which its teacher scored, if it reads it."""
    if not any(path.startswith(TEACHER) for path in term.needs):
        return term
    assert term.mask is not None  # its loss is built
    return dataclasses.replace(term, mask=TaughtMask(term.mask))
