"""What the terms see of a block of tokens, and their weighted sum over it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import losses
from runner.head.gradient_filter import filtered
from runner.head.vocab_partition import VocabPartition
from runner.state.trainable import TrainModules
from runner.step.trunk_pass import StudentTrunk

Tree = Any
Value = Callable[[Any, Tree], tuple[jax.Array, Tree]]


@dataclasses.dataclass(frozen=True)
class BlockEvaluator:
    """The terms over one block.

    In every method, `shared` is what all blocks read and are differentiated in, `given`
    what they read besides, `tokens` and `constants` are those of the block.
    """

    modules: TrainModules
    seed: int
    gradient_filter: float

    def value(self, trunk: StudentTrunk, given: Tree, constants: Tree) -> Value:
        """The terms over sums, and over what the losses own and read besides."""

        def value(sums: Any, seen: Tree) -> tuple[jax.Array, Tree]:
            owned, intermediates = seen
            teacher_trunk, teacher, width = trunk.teacher_trunk, None, None
            if teacher_trunk is not None:
                outputs = teacher_trunk.outputs
                if teacher_trunk.tiles is not None:
                    outputs, width = (
                        teacher_trunk.tiles.outputs,
                        teacher_trunk.tiles.width,
                    )
                teacher = outputs(
                    given["lesson"], constants["teacher"], constants["batch"]
                )
            reduced = losses.TiledOutputs(
                sums=sums,
                vocabulary=trunk.head.num_outputs,
                teacher_width=width,
                **self._common(given, intermediates, constants, teacher),
            )
            return self.total({"losses": owned}, given, constants, reduced)

        return value

    def total(
        self, shared: Tree, given: Tree, constants: Tree, outputs: losses.Outputs
    ) -> tuple[jax.Array, Tree]:
        """`Σ_i w_i / N_i Σ mask·value` over a block, and sums of values by term.

        The sums are of values as they are (`terms`) and times their token weights.
        """
        found = self.values(shared, given, constants, outputs)
        terms = {name: jnp.sum(term.values) for name, term in found.items()}
        weighted = {name: jnp.sum(term.weighted) for name, term in found.items()}
        scaled = [given["scales"][name] * x for name, x in weighted.items()]
        return functools.reduce(jnp.add, scaled), {"terms": terms, "weighted": weighted}

    def values(
        self, shared: Tree, given: Tree, constants: Tree, outputs: losses.Outputs
    ) -> dict[str, losses.TokenValues]:
        """By term, what each token of a block is worth."""
        return losses.per_token(
            self.terms(shared, given),
            outputs,
            masks=constants["masks"],
            statistics=given["statistics"],
            reweighted=constants["reweighted"],
        )

    def rows(
        self,
        trunk: StudentTrunk,
        shared: Tree,
        given: Tree,
        tokens: Tree,
        constants: Tree,
        *,
        logits: bool,
    ) -> losses.Outputs:
        """One block with whole rows; hidden states that none counts are zero."""
        counted = counted_by_any(constants)
        made = jnp.zeros((*counted.shape[:-1], 0))
        if logits:
            hidden = jnp.where(counted, tokens["hidden"], 0)
            student = given["variables"]["student"]
            made = trunk.head(shared["head"], student, hidden)
            least = self.least(given)
            made = made if least is None else filtered(made, least)
        teacher = None
        if trunk.teacher_trunk is not None:
            teacher = trunk.teacher_trunk.outputs(
                given["lesson"], constants["teacher"], constants["batch"]
            )
        return losses.FullOutputs(
            logits=made,
            **self._common(given, tokens["intermediates"], constants, teacher),
        )

    def least(self, given: Tree) -> jax.Array | None:
        """What the gradient of a logit must reach, or None where all of it counts."""
        if not self.gradient_filter or "scales" not in given:
            return None
        scales = [jnp.abs(scale) for scale in given["scales"].values()]
        return self.gradient_filter * functools.reduce(jnp.add, scales)

    def _common(
        self,
        given: Tree,
        intermediates: Tree,
        constants: Tree,
        teacher: losses.TeacherOutputs | None,
    ) -> dict[str, Any]:
        """What losses see besides logits."""
        return {
            "batch": constants["batch"],
            "intermediates": {**intermediates, **constants["intermediates"]},
            "teacher": jax.lax.stop_gradient(teacher),
            "step": given["step"],
            "key": jax.random.fold_in(jax.random.key(self.seed), given["step"]),
        }

    def terms(self, shared: Tree, given: Tree) -> list[losses.LossTerm]:
        """All terms, with the arrays that they own."""
        return self.modules.terms(shared["losses"], given["variables"]["losses"])


def counted_by_any(constants: Tree) -> jax.Array:
    """Tokens that any term counts, bool `[*b 1]`."""
    return functools.reduce(jnp.logical_or, constants["masks"].values())[..., None]


def teacher_tiles(
    trunk: StudentTrunk, given: Tree, constants: Tree
) -> Callable[[VocabPartition, Any, int], jax.Array] | None:
    """The teacher's logits of a block, by tiles, if it is a model that can."""
    teacher_trunk = trunk.teacher_trunk
    if teacher_trunk is None or teacher_trunk.tiles is None:
        return None
    make, counted = teacher_trunk.tiles.logits, counted_by_any(constants)

    def tile(cut: VocabPartition, start: Any, width: int) -> jax.Array:
        logits = make(given["lesson"], constants["teacher"], cut, start, width)
        return jax.lax.stop_gradient(jnp.where(counted, logits, 0.0))

    return tile
