"""Metrics of a step, by the names under which they are logged."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from clu.metrics import LastValue, Metric
from jaxtyping import Array, Float

from runner import optimizers
from runner.step import expert_load
from runner.step.arrays import StepGradients

Tree = Any


def metrics(
    grads: StepGradients, params: Tree, updates: Tree, opt_state: Tree
) -> dict[str, Metric]:
    """Return the metrics of one step.

    Args:
      grads: of the global batch.
      params: before the step.
      updates: of the optimiser.
      opt_state: after the step.
    """
    averages: dict[str, Metric] = {
        f"learning/{name}": average for name, average in grads.terms.items()
    }
    # Beside each average what it is over: means over steps weigh by it.
    counts = {f"counts/{name}": average.count for name, average in grads.terms.items()}
    scalars = (
        counts
        | {"learning/total": grads.total}
        | _optimizer(grads.params, params, updates, opt_state)
        | _weighting(grads)
        | _experts(grads)
    )
    return averages | {
        name: LastValue.from_model_output(value) for name, value in scalars.items()
    }


def fetch(step_metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Return numbers by name; an average over no token has none."""
    on_host = jax.device_get(step_metrics)
    return {
        name: float(metric.compute())
        for name, metric in on_host.items()
        if getattr(metric, "count", 1) != 0
    }


def _optimizer(
    grads: Tree, params: Tree, updates: Tree, opt_state: Tree
) -> dict[str, Float[Array, ""]]:
    grads, params, updates = optimizers.float32((grads, params, updates))
    parameter_norm = optax.tree.norm(params)
    scalars = {
        "optimizer/gradient_norm": optax.tree.norm(grads),
        "optimizer/parameter_norm": parameter_norm,
        "optimizer/update_ratio": optax.tree.norm(updates)
        / jnp.maximum(parameter_norm, jnp.finfo(jnp.float32).tiny),
    }
    rates = optax.tree.get_all_with_path(
        opt_state,
        "learning_rate",
        filtering=lambda path, value: isinstance(value, jax.Array),
    )
    if rates:  # of several, the first
        scalars["optimizer/learning_rate"] = rates[0][1]
    for name, numbers in (optax.tree.get(opt_state, "step_rules") or {}).items():
        scalars |= {f"optimizer/{name}/{key}": x for key, x in numbers.items()}
    return scalars


def _weighting(grads: StepGradients) -> dict[str, Float[Array, ""]]:
    scalars = {f"weights/{name}": weight for name, weight in grads.weights.items()}
    for name, report in grads.reports.items():
        scalars[f"contributions/{name}"] = report.contribution
        scalars[f"shares/{name}"] = report.share
        if name not in grads.terms:  # a group
            scalars[f"learning/{name}"] = report.value
    for name, mean in grads.token_weights.items():
        scalars[f"token_weights/{name}"] = mean
    for name, mean in grads.weighted.items():
        scalars[f"weighted/{name}"] = mean
    for name, skip in grads.skipped.items():
        scalars[f"skipped/{name}"] = skip.astype(jnp.float32)
    return scalars


def _experts(grads: StepGradients) -> dict[str, Float[Array, ""]]:
    scalars = {}
    for prefix, load in (("", grads.expert_load), ("teacher_", grads.teacher_load)):
        if load is not None:
            for name, value in expert_load.summary(load).items():
                scalars[f"moe/{prefix}{name}"] = value
    return scalars
