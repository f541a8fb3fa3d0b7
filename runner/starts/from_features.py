"""Starts whose head is made of the features of the training data, in closed form."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from losses import target_mask
from models import checks, sharding
from models.base import Batch
from runner.checkpoint import tree_paths
from runner.data.pipeline import numbered_batches
from runner.errors import UserError, prefixed
from runner.machine import mesh as mesh_lib
from runner.starts import class_moments
from runner.starts.base import LoadedStart, Start, StartContext
from runner.starts.class_moments import ClassMoments
from runner.starts.weights_start import WeightsStart
from runner.state.train_state import TrainState

_HEAD, _KERNEL, _BIAS = "output", "output/kernel", "output/bias"
_ROWS_PER_DEVICE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStart(Start):
    """A head from the features that it reads, over all rows of the training data.

    The trunk is that of `start`, or fresh; one pass over the data makes the head. What
    a start has of a head of another form is left out by `starts.Only`.

    Attributes:
      start: of all else; None for fresh values.
    """

    start: WeightsStart | None = None
    norm_one = False

    def check(self) -> None:
        if self.start is not None:
            self.start.check()

    @abc.abstractmethod
    def head(self, moments: ClassMoments) -> tuple[np.ndarray, np.ndarray]:
        """Return kernel `[K d]` and bias `[K]`."""

    @property
    def has_bias(self) -> bool:
        """True if the head must have a bias."""
        return False

    def load(self, context: StartContext) -> "LoadedHead":
        inner = None if self.start is None else self.start.load(context)
        with prefixed("start"):
            return LoadedHead(self, inner, context)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NaiveBayes(FeatureStart):
    """A head that is a Gaussian naive Bayes classifier: generative, then trained.

    `log π_k - ½ Σ_j (x_j - μ_kj)² / v_j` of the features x that the head reads, class
    means μ, priors π and one variance v_j for all classes: linear in x
    (`class_moments.naive_bayes`). The student has a head with a bias
    (`models.BiasedHead`). With 0 steps it is the classifier; `trainable=["output/*"]`
    goes on from it by logistic regression.

    Attributes:
      smoothing: added to every v_j, times the mean of all features' variances: with
        few examples of a class, these decide.

    Raises:
      ValueError: `smoothing` is not positive.

    Source: Zheng et al. 2023, "Revisiting Discriminative vs. Generative Classifiers"
    (arXiv:2302.02334): naive Bayes nears its asymptote with O(log d) examples, logistic
    regression with O(d).
    """

    smoothing: float = 1e-3

    def __post_init__(self):
        checks.positive(smoothing=self.smoothing)

    @property
    def has_bias(self) -> bool:
        return True

    def head(self, moments: ClassMoments) -> tuple[np.ndarray, np.ndarray]:
        return class_moments.naive_bayes(moments, smoothing=self.smoothing)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassSums(FeatureStart):
    """A head of `K/N Σ_{y_i = k} x_i / ‖x_i‖`: of balanced classes, class means.

    Source: AMU-Tuning (arXiv:2404.08958), its start of the linear probe. With one
    example a class it is the nearest neighbour, by the dot product.
    """

    norm_one = True

    def head(self, moments: ClassMoments) -> tuple[np.ndarray, np.ndarray]:
        return class_moments.class_sums(moments)


class LoadedHead(LoadedStart):
    """A start that fits a student, and the head to be made.

    Raises:
      UserError: the head of the student is of another kind.
    """

    def __init__(
        self, node: FeatureStart, inner: LoadedStart | None, context: StartContext
    ):
        self._node, self._inner, self._context = node, inner, context
        abstract = context.modules.abstract(context.mesh, context.rules)
        arrays = _student(abstract)
        biased = {_KERNEL, _BIAS} <= arrays.keys()
        if not biased and (node.has_bias or _HEAD not in arrays):
            raise UserError(
                f"{type(node).__name__} wants a head of its own"
                + (" with a bias: models.BiasedHead" if node.has_bias else "")
            )
        self._kernel = _KERNEL if biased else _HEAD
        self._biased = biased

    def state(self) -> TrainState:
        context = self._context
        before = (
            context.modules.create(context.seed, context.mesh, context.rules)
            if self._inner is None
            else self._inner.state()
        )
        kernel, bias = self._node.head(moments(context, before, self._node.norm_one))
        arrays = _student(before)
        made = {self._kernel: kernel} | ({_BIAS: bias} if self._biased else {})
        for path, value in made.items():
            old = arrays[path]
            arrays[path] = jax.device_put(value.astype(old.dtype), old.sharding)
        return context.modules.create_from(
            arrays, seed=context.seed, mesh=context.mesh, rules=context.rules
        )

    def describe(self) -> Mapping[str, Any]:
        head, rows = type(self._node).__name__, len(self._context.dataset)
        inner = {} if self._inner is None else self._inner.describe()
        return {**inner, "head": {"of": head, "rows": rows}}

    @property
    def summary(self) -> str:
        before = "start: fresh" if self._inner is None else self._inner.summary
        rows = len(self._context.dataset)
        return f"{before}; head: {type(self._node).__name__} of {rows} rows"


def moments(context: StartContext, state: TrainState, norm_one: bool) -> ClassMoments:
    """Return the moments of the features of all targets of the training data."""
    everywhere = mesh_lib.replicated(context.mesh)
    size = context.student.num_outputs

    def of_batch(student: Any, variables: Any, batch: Batch) -> dict[str, jax.Array]:
        with sharding.use(context.mesh, context.rules):
            hidden = context.modules.student(student, variables).trunk(batch).hidden
        mask = target_mask(batch).reshape(-1)
        classes = jnp.where(mask, batch["targets"].reshape(-1), 0)
        x = jnp.where(mask[:, None], hidden.reshape((mask.size, -1)), 0)
        x = x.astype(jnp.float32)
        if norm_one:
            length = jnp.linalg.norm(x, axis=-1, keepdims=True)
            x = x / jnp.maximum(length, 1e-12)
        ones = mask.astype(jnp.float32)

        def by_class(values: jax.Array) -> jax.Array:
            return jax.ops.segment_sum(values, classes, size)

        counts = by_class(ones)
        means = by_class(x) / jnp.maximum(counts, 1.0)[:, None]
        squares = by_class(ones[:, None] * jnp.square(x - means[classes]))
        return {"counts": counts, "means": means, "squares": squares}

    compiled = jax.jit(of_batch, out_shardings=everywhere)
    total = None
    for batch in numbered_batches(
        context.dataset,
        np.arange(len(context.dataset)),
        batch_size=_ROWS_PER_DEVICE * context.mesh.size,
        sharding=mesh_lib.batch_sharding(context.mesh),
    ):
        arrays = compiled(state.params["student"], state.variables["student"], batch)
        arrays = jax.tree.map(np.float64, jax.device_get(arrays))
        one = ClassMoments(**arrays)
        total = one if total is None else total + one
    if total is None or not total.counts.sum() > 0.0:
        raise UserError("start: no row of the training data has a target to count")
    return total


def _student(state: TrainState) -> dict[str, Any]:
    params = tree_paths.by_path(state.params["student"])
    return params | tree_paths.by_path(state.variables["student"])
