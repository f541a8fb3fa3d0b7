"""Slopes of the student's logits along a direction of its parameters."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from models.base import Batch
from models.kernels.forward_mode import forward_mode
from runner.errors import UserError
from runner.head import plan
from runner.head.token_blocks import TokenBlocks
from runner.machine.mesh import batch_shards
from runner.state.train_state import TrainState
from runner.step.objective import Objective

Tree = Any
PerToken = Callable[[Float[Array, "*b v"]], Float[Array, "*b"]]

PLANES = 4  # logits, slopes, and as much again for what is made of them


@dataclasses.dataclass(frozen=True)
class LogitSlopes:
    """`a = J(θ) v`, the derivative of the logits of a batch in a direction v.

    One forward-mode pass of the trunk, about two forward passes in time and memory,
    then the head by blocks of tokens: `[tokens, V]` does not exist at once.

    Attributes:
      objective: of the step.
      state: before the step.
      batch: of the step, arrays `[B ...]`.
    """

    objective: Objective
    state: TrainState
    batch: Batch

    def largest(
        self, direction: Tree, per_token: PerToken, *, rows: int | None = None
    ) -> Float[Array, ""]:
        """Return the largest `per_token(a)` of the tokens that terms count.

        Args:
          direction: v, like `TrainState.params["student"]`.
          per_token: of slopes `[*b v]` to a number a token `[*b]`; -inf in the place
            of tokens that do not count.
          rows: of the batch to look at, evenly spread; None for all.

        Raises:
          UserError: the batch cannot be thinned out so over the devices.
        """
        tokens, _ = self.objective.count(
            self.state.variables, self.batch, self.state.step
        )
        thin = functools.partial(_every, step=self._step(rows))
        batch, masks = jax.tree.map(thin, (tokens.batch, tokens.masks))
        counted = functools.reduce(jnp.logical_or, masks.values())

        # The trunk, in forward mode.
        params = self.state.params["student"]
        variables = self.state.variables["student"]
        direction = jax.tree.map(lambda v, x: v.astype(x.dtype), direction, params)

        def hidden(params: Tree) -> Float[Array, "*b d"]:
            student = self.objective.modules.student(params, variables)
            return student.trunk(batch, capture=frozenset(), remat="none").hidden

        with forward_mode(True):
            states, d_states = jax.jvp(hidden, (params,), (direction,))

        # The head, a block of tokens after the other.
        head = self.objective.head
        shared = (
            head.leaves(params),
            head.leaves(direction),
            head.variables(variables),
        )

        def block(shared: Tree, tokens: Tree) -> Float[Array, "*b"]:
            leaves, d_leaves, variables = shared
            states, d_states, counted = tokens
            with forward_mode(True):
                _, slopes = jax.jvp(
                    functools.partial(head, variables=variables),
                    (leaves, _where(counted, states)),
                    (d_leaves, _where(counted, d_states)),
                )
            return jnp.where(counted, per_token(slopes), -jnp.inf)

        blocks = self._blocks(counted.shape)
        return jnp.max(blocks.map(block, shared, (states, d_states, counted)))

    def _step(self, rows: int | None) -> int:
        """Return the distance between the rows to look at."""
        count = len(self.batch["targets"])
        rows = count if rows is None else rows
        shards = batch_shards(self.objective.mesh)
        if not 1 <= rows <= count or count % rows or rows % shards:
            raise UserError(
                f"rows: {rows} of a batch of {count} over {shards} devices; it must "
                f"divide {count} and be a multiple of {shards}"
            )
        return count // rows

    def _blocks(self, token_axes: tuple[int, ...]) -> TokenBlocks:
        size = plan.block_size(
            self.objective.head_config,
            entries=self.objective.head.num_outputs,
            planes=PLANES,
        )
        return TokenBlocks(mesh=self.objective.mesh, token_axes=token_axes, size=size)


def _every(x: Array, *, step: int) -> Array:
    """Return every `step`-th row: each device has as many of them."""
    return x if step == 1 else x[::step]


def _where(counted: Bool[Array, "*b"], x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    return jnp.where(counted[..., None], x, 0)
