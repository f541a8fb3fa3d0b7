"""Updates that keep their size through a model as it grows wider, and its decay."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models import layers
from runner import optimizers
from runner.errors import UserError
from runner.step_rules.base import StepRule, StepRuleContext

Tree = Any
EMBEDDING = "embedding"
HEAD = ("output", "head_factor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByWidth(StepRule):
    """`base_dim / dim` times the updates of linear layers: the learning rate of muP.

    dim is the width of the student's embedding. Where all widths grow alike, this is
    the fan-in of a layer in the model of width `base_dim` over its fan-in here; at
    `dim = base_dim` nothing changes. Linear layers are the matrices of the blocks and
    the head; embeddings, norms and biases keep their rate, and so does a tied head. An
    optimiser's decay is scaled with its rate: take `IndependentDecay` after it.

    The full rule also starts the head at a standard deviation (`head_init`) that is
    smaller by the root of `base_dim / dim`, and has `attention_scale = 1 / head_dim`.

    Source: Wortsman et al. 2023 (arXiv:2309.14322), section 3.3, μParam (simple), base
    256; Yang et al. 2022 (arXiv:2203.03466), table 3.

    Raises:
      ValueError: `base_dim` is not positive.
      UserError: in a step, the student has no embedding.
    """

    base_dim: int

    def __post_init__(self):
        if self.base_dim < 1:
            raise ValueError(f"base_dim must be positive, got {self.base_dim}")

    def __call__(
        self, updates: Tree, context: StepRuleContext
    ) -> tuple[Tree, Mapping[str, Float[Array, ""]]]:
        student = updates["student"]
        if EMBEDDING not in student:
            raise UserError(
                "optimizer.rules: ByWidth reads the width of a student's embedding, "
                "and this one has none"
            )
        factor = jnp.float32(self.base_dim / student[EMBEDDING].shape[-1])
        linear = _are_linear(student)
        scaled = jax.tree.map(lambda x, is_: x * factor if is_ else x, student, linear)
        return {**updates, "student": scaled}, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndependentDecay(StepRule):
    """`-s_t · decay · θ` added to the updates of matrices: a decay of its own.

    The decay of AdamW is `rate · weight_decay`, and moves with the rate of a sweep;
    this one does not. `optimizers.adamw(rate, weight_decay=λ / peak)` is the same where
    s_t is the rate over its peak.

    Attributes:
      decay: of a step at s_t = 1.
      schedule: s_t, of the finished steps; None is 1.

    Source: Wortsman et al. 2023 (arXiv:2309.14322), section 3.2 and appendix, 1e-4
    with s_t from 0 to 1 and back; Loshchilov & Hutter 2019 (arXiv:1711.05101).

    Raises:
      ValueError: `decay` is negative.
    """

    decay: float = 1e-4
    schedule: Callable[[Int[Array, ""]], Any] | None = None

    def __post_init__(self):
        if not self.decay >= 0.0:
            raise ValueError(f"decay must not be negative, got {self.decay}")

    def __call__(
        self, updates: Tree, context: StepRuleContext
    ) -> tuple[Tree, Mapping[str, Float[Array, ""]]]:
        share = 1.0 if self.schedule is None else self.schedule(context.step)
        factor = jnp.asarray(share, jnp.float32) * jnp.float32(self.decay)
        decayed = jax.tree.map(
            lambda x, param, is_matrix: x - factor * param if is_matrix else x,
            updates,
            context.params,
            layers.are_matrices(context.params),
        )
        return decayed, {}


def _are_linear(student: Tree) -> Tree:
    """Return true for the matrices of blocks, and for a head of its own."""
    of_blocks = jax.tree.map(
        lambda axes: axes is not None,
        layers.matrix_axes(student),
        is_leaf=optimizers.is_axes,
    )

    def is_linear(path: tuple[Any, ...], of_block: bool) -> bool:
        return of_block or layers.path_names(path)[0] in HEAD

    return jax.tree_util.tree_map_with_path(is_linear, of_blocks)
