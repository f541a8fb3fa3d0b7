"""Builds `Outputs` for one token block and evaluates the weighted terms."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from losses import FullOutputs, LossTerm, Outputs, TeacherOutputs
from losses.core.masks import Mask
from losses.core.outputs import CONSTANT_HEAD, pass_gradient_if, read_by_head
from losses.core.term_values import TokenValues, per_token
from losses.core.vocab_sums import TiledOutputs, VocabSums
from runner.head.gradient_filter import filtered
from runner.head.head import Head
from runner.head.vocab_partition import VocabPartition
from runner.state.trainable import TrainModules
from runner.step.arrays import (
    BlockConstants,
    BlockTokens,
    HeadParams,
    StepInputs,
    TermSums,
)
from runner.step.trunk_pass import StudentTrunk

Tree = Any
Others = tuple[Mapping[str, Tree], Mapping[str, Shaped[Array, "..."]]]
"""`(parameters of the losses, intermediates)`, differentiated beside the sums."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TiledBlock:
    """One block of tokens, whose logits come a tile of the vocabulary at a time.

    Attributes:
      total: the weighted total of sums over the vocabulary, and the sums by term.
      counted: tokens that any term counts, bool `[*b 1]`.
      teacher_logits: `(partition, start, width) -> [*b n]`, the teacher's logits of a
        tile, which may be NaN where no term counts; None where it has none by tiles.
      threshold: what the gradient of a logit must reach; None where all counts.
    """

    total: Callable[[VocabSums, Others], tuple[Float[Array, ""], TermSums]]
    counted: Bool[Array, "*b 1"]
    teacher_logits: Callable[[VocabPartition, Any, int], Float[Array, "*b n"]] | None
    threshold: Float[Array, ""] | None


@dataclasses.dataclass(frozen=True)
class BlockEvaluator:
    """The terms over one block.

    Attributes:
      modules: the terms, without the arrays that they own.
      head: the student's.
      seed: of the experiment; the key of a step is made from it.
      gradient_filter: as `Experiment.gradient_filter`.
      readers: the terms that read the student's logits.
      reads: masks of the tokens that some of them read besides those that they count.
      head_paths: of logits that the head gives of intermediates.
      may_vanish: the terms whose weight may be 0.
      masks: by term, of the tokens that it counts, where that is not its own.
    """

    modules: TrainModules
    head: Head
    seed: int
    gradient_filter: float
    readers: frozenset[str]
    reads: Sequence[Mask]
    head_paths: Sequence[str]
    may_vanish: frozenset[str]
    masks: Mapping[str, Mask]

    def full_outputs(
        self,
        trunk: StudentTrunk,
        params: HeadParams,
        inputs: StepInputs,
        tokens: BlockTokens,
        constants: BlockConstants,
        *,
        logits: bool,
        counted: Bool[Array, "*b 1"] | None = None,
    ) -> Outputs:
        """Return one block with whole rows of logits, or with none.

        The head reads zeros outside `counted` `[*b 1]`, by default those of the terms.
        """
        student_logits = jnp.zeros((*constants.batch["targets"].shape, 0))
        if counted is None and (logits or self.head_paths):
            counted = self._counted(constants)

        def read(leaves: Tree, states: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
            # Hidden states of tokens that no term counts are zero: they may hold NaN.
            assert counted is not None
            states = jnp.where(counted, states, 0)
            return self.head(leaves, states, variables=inputs.variables["student"])

        if logits:
            student_logits = read(params.head, tokens.hidden)
            threshold = self._gradient_threshold(inputs)
            if threshold is not None:
                student_logits = filtered(student_logits, threshold)
        teacher = None
        if trunk.teacher is not None:
            teacher = trunk.teacher.outputs(
                inputs.teacher_head, constants.teacher, constants.batch
            )
        intermediates = dict(tokens.intermediates)
        for path in self.head_paths:
            fixed = path.startswith(CONSTANT_HEAD)
            leaves = jax.lax.stop_gradient(params.head) if fixed else params.head
            intermediates[path] = read(leaves, intermediates[read_by_head(path)])
        return FullOutputs(
            logits=student_logits,
            **self._common_fields(inputs, intermediates, constants, teacher),
        )

    def tiled(
        self, trunk: StudentTrunk, inputs: StepInputs, constants: BlockConstants
    ) -> TiledBlock:
        """Return one block as a function of sums over the vocabulary."""
        teacher = trunk.teacher
        teacher_tiles = None if teacher is None else teacher.tiles

        # Called twice a block: to record what the losses ask for, and with the sums.
        def total(sums: VocabSums, others: Others) -> tuple[Float[Array, ""], TermSums]:
            owned, intermediates = others
            teacher_outputs = None
            if teacher is not None:
                outputs = (teacher_tiles or teacher).outputs
                teacher_outputs = outputs(
                    inputs.teacher_head, constants.teacher, constants.batch
                )
            tiled = TiledOutputs(
                sums=sums,
                vocabulary=self.head.num_outputs,
                teacher_width=None if teacher_tiles is None else teacher_tiles.width,
                **self._common_fields(
                    inputs, intermediates, constants, teacher_outputs
                ),
            )
            params = HeadParams(head=[], losses=owned)
            values = self.values(params, inputs, constants, tiled)
            return weighted_total(values, inputs)

        return TiledBlock(
            total=total,
            counted=self._counted(constants),
            teacher_logits=teacher_tiles
            and functools.partial(
                teacher_tiles.logits, inputs.teacher_head, constants.teacher
            ),
            threshold=self._gradient_threshold(inputs),
        )

    def values(
        self,
        params: HeadParams,
        inputs: StepInputs,
        constants: BlockConstants,
        outputs: Outputs,
    ) -> dict[str, TokenValues]:
        """Return the per-token values of a block, by term."""
        return per_token(
            self.terms(params, inputs),
            outputs,
            masks=constants.masks,
            statistics=inputs.statistics,
            token_weights=constants.token_weights,
            active=self._active(inputs),
        )

    def terms(self, params: HeadParams, inputs: StepInputs) -> list[LossTerm]:
        """Return all terms, with the arrays that they own and their masks."""
        active = self._active(inputs)
        owned = {
            name: pass_gradient_if(active[name], tree) if name in active else tree
            for name, tree in params.losses.items()
        }
        terms = self.modules.terms(owned, inputs.variables["losses"])
        # Terms of one mask share their masked outputs.
        return [
            dataclasses.replace(term, mask=self.masks[term.name])
            if term.name in self.masks
            else term
            for term in terms
        ]

    def _active(self, inputs: StepInputs) -> dict[str, Bool[Array, ""]]:
        """Return whether the weight of a term is not 0, for those that it may be of."""
        return {
            name: scale != 0.0
            for name, scale in inputs.scales.items()
            if name in self.may_vanish
        }

    def _counted(self, constants: BlockConstants) -> Bool[Array, "*b 1"]:
        """Return the tokens whose logits any term reads, bool `[*b 1]`."""
        masks = [constants.masks[name] for name in sorted(self.readers)]
        masks += [reads(constants.batch) for reads in self.reads]
        return functools.reduce(jnp.logical_or, masks)[..., None]

    def _gradient_threshold(self, inputs: StepInputs) -> Float[Array, ""] | None:
        """Return what the gradient of a logit must reach; None where all counts."""
        if not self.gradient_filter or not inputs.scales:
            return None
        scales = [jnp.abs(scale) for scale in inputs.scales.values()]
        return self.gradient_filter * functools.reduce(jnp.add, scales)

    def _common_fields(
        self,
        inputs: StepInputs,
        intermediates: Mapping[str, Shaped[Array, "..."]],
        constants: BlockConstants,
        teacher: TeacherOutputs | None,
    ) -> dict[str, Any]:
        """Return the fields of full and of tiled outputs besides logits."""
        return {
            "batch": constants.batch,
            "intermediates": {**intermediates, **constants.intermediates},
            "teacher": jax.lax.stop_gradient(teacher),
            "step": inputs.step,
            "num_rows": inputs.num_rows,
            "key": jax.random.fold_in(jax.random.key(self.seed), inputs.step),
        }


def weighted_total(
    values: Mapping[str, TokenValues], inputs: StepInputs
) -> tuple[Float[Array, ""], TermSums]:
    """Return `Σ_i w_i / N_i Σ mask·value` over a block, and the sums by term."""
    sums = TermSums(
        values={name: jnp.sum(x.values) for name, x in values.items()},
        weighted={name: jnp.sum(x.weighted) for name, x in values.items()},
    )
    # At weight 0, exactly 0: the values may be no numbers.
    scaled = [
        jnp.where(scale == 0.0, 0.0, scale * sums.weighted[name])
        for name, scale in inputs.scales.items()
    ]
    return functools.reduce(jnp.add, scaled), sums
