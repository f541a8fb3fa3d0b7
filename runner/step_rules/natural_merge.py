"""Natural and adversarial training by turns, merged after each pair of turns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from runner import optimizers

Tree = Any


class MergeState(NamedTuple):
    """State of `natural_merge`.

    Attributes:
      step: finished steps.
      start: the parameters that both turns begin from.
      natural: what the natural turn moved them by.
      inner: of the optimiser in the turns of this kind.
      waiting: of the optimiser in those of the other kind.
    """

    step: jax.Array
    start: Tree
    natural: Tree
    inner: Tree
    waiting: Tree


def natural_merge(
    optimizer: optax.GradientTransformation, *, steps: int, share: float = 0.5
) -> optax.GradientTransformationExtraArgs:
    """Train in turns from the same weights f, and merge what both turns moved them by.

        f + β Σ max(cos(g_n, g_a), 0) g_n + (1 - β) g_a,    array by array

    A natural turn of `steps` steps moves f by g_n; the weights go back to f, and an
    adversarial turn moves them by g_a. Then they become the above, which is the next f.
    Losses take turns too: `losses.Turn(steps=, turn=0)` is the weight of the natural
    one, `turn=1` that of the others. Each kind of turn has a state of the optimiser of
    its own, whose schedules see its steps alone: half of all. It takes two copies of
    the weights more, float32. State that is no parameter (`BatchNorm`) is not merged.

    It counts the updates that it is asked for, which are the steps of a run that
    `losses.Turn` counts. What leaves some out belongs inside it,
    `natural_merge(optax.apply_if_finite(...), ...)`: around it, its turns would fall
    behind those of the losses.

    With `steps` those of an epoch this is the gradient projection of RAMP. Equal moves
    g merge to f + g; opposite ones to f + (1 - β) g_a.

    Args:
      optimizer: any.
      steps: of a turn.
      share: β.

    Raises:
      ValueError: a number is out of its range.

    Source: Jiang and Singh 2024, RAMP (arXiv:2402.06827), section 4.2; β = 0.5 from
    scratch, and 0.2 for fine-tuning in its code.
    """
    if steps < 1 or not 0.0 <= share <= 1.0:
        raise ValueError(
            f"steps must be at least 1 and share in [0, 1], got {steps} and {share}"
        )
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Tree) -> MergeState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        states = inner.init(params), inner.init(params)
        return MergeState(jnp.zeros((), jnp.int32), params, zeros, *states)

    def update(
        updates: Tree, state: Any, params: Tree | None = None, **extra: Any
    ) -> tuple[Tree, MergeState]:
        is_natural = state.step // steps % 2 == 0
        ends = (state.step + 1) % steps == 0
        updates, after = inner.update(updates, state.inner, params, **extra)

        # What this turn has moved the weights by, and where they go at its end.
        moved = jax.tree.map(lambda x, u, f: x + u - f, params, updates, state.start)
        merged = jax.tree.map(
            lambda f, n, a: f + _merged(n, a, share), state.start, state.natural, moved
        )
        target = _where(is_natural, state.start, merged)
        back = jax.tree.map(jnp.subtract, target, params)
        return _where(ends, back, updates), MergeState(
            step=state.step + 1,
            start=_where(ends & ~is_natural, merged, state.start),
            natural=_where(ends & is_natural, moved, state.natural),
            inner=_where(ends, state.waiting, after),
            waiting=_where(ends, after, state.waiting),
        )

    return optimizers.in_float32(optax.GradientTransformationExtraArgs(init, update))


def _merged(natural: jax.Array, adversarial: jax.Array, share: float) -> jax.Array:
    products = jnp.sum(natural * adversarial)
    sizes = jnp.linalg.norm(natural.ravel()) * jnp.linalg.norm(adversarial.ravel())
    cosine = products / jnp.maximum(sizes, 1e-12)
    return share * jnp.maximum(cosine, 0.0) * natural + (1.0 - share) * adversarial


def _where(condition: jax.Array, one: Tree, other: Tree) -> Tree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)
