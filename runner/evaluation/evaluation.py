"""Evaluation of a student on held-out data."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import losses
from models import sharding
from models.base import Batch
from runner import runtime
from runner.data.pipeline import evaluation_batches, evaluation_rows
from runner.data.source import DataSource
from runner.evaluation import prediction_metrics
from runner.head import plan
from runner.head.head import Head
from runner.head.token_blocks import TokenBlocks
from runner.machine import mesh as mesh_lib
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The student's predictions on some data: of next tokens, of the classes of images.

    Its metrics:

    * `loss`: nats per target, `-log q(y)`.
    * `perplexity`: the exponential of the loss.
    * `bits_per_byte`: per UTF-8 byte of the documents' text, if the data is text.
    * `accuracy`: share of targets that are the most probable output.
    * `calibration_error`: `Σ_b n_b/N |accuracy_b - confidence_b|` over 15 equal bins
      of the top probability (Guo et al. 2017, arXiv:1706.04599, eq. 3).

    Attributes:
      name: The group of its metrics, as in `<name>/loss`.
      data: The held-out data.
      batch_size: Rows in a global batch, over all devices.

    Raises:
      ValueError: `batch_size` is below 1.
    """

    name: str
    data: DataSource
    batch_size: int

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


class Evaluator:
    """An evaluation, compiled for a student on a mesh.

    Attributes:
      dataset: The held-out rows.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        modules: TrainModules,
        *,
        mesh: jax.sharding.Mesh,
        config: runtime.Runtime,
    ):
        self.dataset = evaluation.data.load(cache=config.input.cache)
        self._batches = functools.partial(
            evaluation_batches,
            self.dataset,
            batch_size=evaluation.batch_size,
            sharding=mesh_lib.batch_sharding(mesh),
        )
        self._modules, self._mesh, self._config = modules, mesh, config
        self._head = Head.of(modules)
        self._batch_size = evaluation.batch_size
        self._text_bytes: dict[int | None, float] = {}  # by limit
        self._sums = jax.jit(self._batch_sums)

    def __call__(
        self, state: TrainState, *, limit: int | None = None
    ) -> dict[str, float]:
        """Return the metrics of the state's student.

        Args:
          state: The train state.
          limit: Batches to evaluate, of rows spread evenly; None for all rows.
        """
        total: dict[str, np.ndarray] = {}
        for batch in self._batches(limit=limit):
            sums = self._sums(
                state.params["student"], state.variables["student"], batch
            )
            for name, value in jax.device_get(sums).items():
                total[name] = total.get(name, 0.0) + np.asarray(value, np.float64)
        total["bytes"] = np.asarray(self._bytes(limit))
        return metrics(total)

    def _bytes(self, limit: int | None) -> float:
        if limit not in self._text_bytes:
            rows = evaluation_rows(
                self.dataset, batch_size=self._batch_size, limit=limit
            )
            self._text_bytes[limit] = self.dataset.text_bytes(rows)
        return self._text_bytes[limit]

    def _batch_sums(self, params: Tree, variables: Tree, batch: Batch) -> Tree:
        with sharding.use(self._mesh, self._config.mesh.rules):
            hidden = self._modules.student(params, variables).trunk(batch).hidden
            head = self._head
            tokens = {name: batch[name] for name in ("targets", "mask")}
            tokens["hidden"] = hidden
            blocks = TokenBlocks(
                mesh=self._mesh,
                token_axes=batch["targets"].shape,
                size=plan.block_size(self._config.head, entries=head.num_outputs),
            )
            shared = (head.leaves(params), variables)
            return blocks.sum(functools.partial(_block_sums, head), shared, tokens)


def _block_sums(head: Head, shared: Tree, block: Tree) -> Tree:
    mask = block["mask"]
    leaves, variables = shared
    logits = head(leaves, block["hidden"], variables=variables)
    outputs = losses.FullOutputs(batch=block, logits=logits)
    outputs = outputs.where(mask)
    values = losses.CrossEntropy()(outputs)
    return {
        "count": jnp.sum(mask, dtype=jnp.float32),
        "nats": jnp.sum(jnp.where(mask, values, 0.0)),
        **prediction_metrics.of_predictions(outputs),
    }


def metrics(sums: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the metrics of `Evaluation` from sums over tokens and `bytes` of text."""
    count = max(float(sums["count"]), 1.0)
    loss = float(sums["nats"]) / count
    values = {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "accuracy": float(np.sum(sums["correct"])) / count,
        "calibration_error": prediction_metrics.calibration_error(sums, count),
    }
    if sums["bytes"] > 0:
        values["bits_per_byte"] = float(sums["nats"] / sums["bytes"]) / math.log(2)
    return values
