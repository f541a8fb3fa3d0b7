"""Mixing weights of a soup, learned by gradient on held-out data."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import losses
from models import layers, sharding
from models.base import Batch
from runner import optimizers
from runner.checkpoint import tree_paths
from runner.data.pipeline import numbered_batches
from runner.errors import UserError
from runner.machine import mesh as mesh_lib
from runner.train.setup import Setup

Tree = Any
Loss = Callable[[Tree, jax.Array, Any], jax.Array]
"""Of a student, a scale of its logits and a batch."""

Shares = Mapping[str, jax.Array]
"""By path, `[layer run]`; one layer but of stacked arrays. The path "" is of all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Terms on which mixing weights are learned.

    Attributes:
      rate: of Adam.
      epochs: passes over the held-out data.
      by_layer: whether each array has its own; of a stack, each layer's.
    """

    rate: float = 0.05
    epochs: int = 5
    by_layer: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """Mixing weights.

    Attributes:
      scale: of the logits, learned beside them; no part of the soup.
      shares: as `Shares`, in the order of the runs.
    """

    scale: float
    shares: dict[str, list[list[float]]]

    def of_runs(self) -> list[float]:
        """Return the mean share of each run over layers and arrays."""
        return np.concatenate(list(self.shares.values())).mean(axis=0).tolist()


def learn(
    setup: Setup, by: str, students: Sequence[Tree], plan: Plan
) -> tuple[Tree, Learned]:
    """Return the mean of students whose shares have the least loss of an evaluation.

    Args:
      setup: of the experiment.
      by: the evaluation, whose rows are drawn in another order each epoch.
      students: `{"params": ..., "variables": ...}`.
      plan: of the learning.

    Raises:
      UserError: the evaluation has no rows of its own: the student writes them; or the
        shares do not stay finite.
    """
    evaluator = setup.evaluators[by]
    if evaluator.dataset.rollouts is not None:
        raise UserError(f"by: the rows of {by} are the student's own (data.OnPolicy)")

    def batches() -> Iterable[Batch]:
        for epoch in range(plan.epochs):
            draws = np.random.default_rng([setup.seed, epoch])
            yield from numbered_batches(
                evaluator.dataset,
                draws.permutation(len(evaluator.dataset)),
                batch_size=evaluator.batch_size,
                sharding=mesh_lib.batch_sharding(setup.mesh),
            )

    def loss(student: Tree, scale: jax.Array, batch: Batch) -> jax.Array:
        with sharding.use(setup.mesh, setup.config.mesh.rules):
            model = setup.modules.student(student["params"], student["variables"])
            logits = scale * model.head(model.trunk(batch).hidden)
        mask = losses.target_mask(batch)
        targets = jnp.where(mask, batch["targets"], 0)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        count = jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)
        return jnp.sum(jnp.where(mask, nats, 0.0)) / count

    return fit(loss, students, batches(), plan)


def fit(
    loss: Loss, students: Sequence[Tree], batches: Iterable[Any], plan: Plan
) -> tuple[Tree, Learned]:
    """Return the mean of least loss, one step of Adam a batch, and its weights.

    `Σ_i α_i θ_i`, with `α = softmax(a)`, a from equal values and the scale from 1.
    """
    of_layers = {
        path: _layers(path, x)
        for path, x in tree_paths.by_path(students[0]).items()
        if _is_mixed(x)
    }
    rows = of_layers if plan.by_layer else {"": 1}
    raw = {path: jnp.zeros((n, len(students))) for path, n in rows.items()}
    weights = {"raw": raw, "scale": jnp.ones(())}
    adam = optimizers.in_float32(optax.adam(plan.rate))

    @jax.jit
    def step(weights: Tree, state: Tree, students: Tree, batch: Any) -> tuple:
        def of_weights(weights: Tree) -> jax.Array:
            shares = _softmax(weights["raw"])
            return loss(mean(students, shares), weights["scale"], batch)

        updates, state = adam.update(jax.grad(of_weights)(weights), state)
        return optimizers.apply_updates(weights, updates), state

    state = adam.init(weights)
    for batch in batches:
        weights, state = step(weights, state, students, batch)
    shares = _softmax(weights["raw"])
    if not all(bool(jnp.all(jnp.isfinite(x))) for x in shares.values()):
        raise UserError(
            "soup: the shares did not stay finite; leave out runs that diverged, or "
            f"take a smaller rate than {plan.rate}"
        )
    return jax.jit(mean)(students, shares), Learned(
        scale=float(weights["scale"]),
        shares={path: np.asarray(x).tolist() for path, x in shares.items()},
    )


def mean(students: Sequence[Tree], shares: Shares) -> Tree:
    """Return `θ_0 + Σ_i α_i (θ_i - θ_0)`: of equal students these, bit for bit.

    Sums are float32; integers stay.
    """
    first, *others = map(tree_paths.by_path, students)
    mixed = dict(first)
    for path, x in first.items():
        if not _is_mixed(x):
            continue
        rows = shares[path if path in shares else ""]
        by_layer = (-1, *[1] * (x.ndim - 1)) if len(rows) > 1 else ()
        wide = result = x.astype(jnp.float32)
        for run, other in enumerate(others, start=1):
            share = rows[:, run].reshape(by_layer)
            result = result + share * (other[path].astype(jnp.float32) - wide)
        mixed[path] = result.astype(x.dtype)
    return jax.tree.unflatten(jax.tree.structure(students[0]), mixed.values())


def _is_mixed(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _softmax(raw: Shares) -> Shares:
    return jax.tree.map(functools.partial(jax.nn.softmax, axis=-1), raw)


def _layers(path: str, leaf: Any) -> int:
    return leaf.shape[0] if layers.is_stacked(path.split("/")) else 1
