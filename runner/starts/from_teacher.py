"""A start from the teacher itself, cut to the student's layers and widths."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from models import checks
from models.base import Batch
from models.transformer import Transformer
from runner.checkpoint import tree_paths
from runner.data.dataset import Dataset
from runner.data.text.tokenizer import TokenizerSource
from runner.errors import UserError
from runner.starts import pruning
from runner.starts.base import StartContext
from runner.starts.importance import Importance, measure
from runner.starts.pruning import Sizes
from runner.starts.weights_start import Weights, WeightsStart, wanted
from runner.state.split_module import SplitModule
from runner.state.trainable import abstract_key
from runner.teachers.online import OnlineTeacher
from runner.weights import adapters, identity, opening, tensors
from runner.weights.adapters import Merged

_ROWS_AT_A_TIME = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromTeacher(WeightsStart):
    """The teacher's own layers, heads, neurons and channels, as many as fit.

    The student's fields (`num_layers`, `dim`, `num_heads`, `mlp`) say how much stays.

    Attributes:
      checkpoint: of the model to cut; None for that of the experiment's teacher.
      settings: as `OnlineTeacher.settings`.
      tokenizer: as `OnlineTeacher.tokenizer`.
      layers: `"evenly"` (every other one, if these are half), `"best"` by measured
        importance, or the numbers of those that stay.
      widths: `"best"` by measured importance, or `"first"`.
      rows: of the training data, spread over all of them, on which it is measured.

    Sources: ShortGPT (arXiv:2403.03853), Minitron (arXiv:2407.14679); see
    `runner.starts.importance`.

    Raises:
      ValueError: a choice that there is not, or a number below 1.
    """

    checkpoint: str | None = None
    settings: Mapping[str, Any] | None = None
    tokenizer: TokenizerSource | None = None
    layers: str | Sequence[int] = "evenly"
    widths: str = "best"
    rows: int = 64

    def __post_init__(self):
        if isinstance(self.layers, str):
            checks.one_of("layers", self.layers, ("evenly", "best"))
        checks.one_of("widths", self.widths, ("best", "first"))
        checks.positive(rows=self.rows)

    def check(self) -> None:
        if self.checkpoint is not None:
            opening.find(self.checkpoint)

    def weights(self, context: StartContext) -> Weights:
        source = self if self.checkpoint is not None else _online(context.teacher)
        path = source.checkpoint
        assert path is not None
        vocabulary = context.dataset.vocabulary
        files = identity.speaking(
            opening.open_weights(path, source.settings),
            vocabulary,
            source.tokenizer,
            cache=context.cache,
        )

        # How much stays, and of what.
        merged = adapters.merged(files)
        whole = tensors.unstacked(merged.tensors)
        large = Sizes.of({path: x.shape for path, x in whole.items()})
        abstract, _ = wanted(context)
        small = Sizes.of(
            {
                path: x.shape
                for path, x in tensors.unstacked(_as_tensors(abstract)).items()
            }
        )
        _check_sizes(large, small, num_ids=vocabulary.size, path=path)
        kept = self._kept(merged, large, small, context.dataset)

        return Weights(
            source={
                "path": path,
                "digest": files.digest,
                "layers": [int(layer) for layer in kept.layers],
            },
            tensors=pruning.cut(whole, kept),
        )

    def _kept(
        self, whole: Merged, large: Sizes, small: Sizes, dataset: Dataset
    ) -> pruning.Kept:
        narrower = large != dataclasses.replace(
            small, layers=large.layers, vocabulary=large.vocabulary
        )
        importance = None
        if self.layers == "best" or (narrower and self.widths == "best"):
            importance = measured(whole, dataset, rows=self.rows)
        layers = self._layers(large, small, importance)
        if importance is not None and self.widths == "best":
            return pruning.best(importance, large, small, layers)
        return pruning.first(large, small, layers)

    def _layers(
        self, large: Sizes, small: Sizes, importance: Importance | None
    ) -> list[int]:
        if self.layers == "evenly":
            return pruning.evenly(small.layers, large.layers)
        if self.layers == "best":
            assert importance is not None
            return list(pruning.largest(importance.layers, small.layers))
        layers = [int(layer) for layer in self.layers]
        outside = [x for x in layers if not 0 <= x < large.layers]
        if outside:
            raise UserError(
                f"layers: no layer {outside[0]}: they are 0 to {large.layers - 1}"
            )
        if len(layers) != small.layers:
            raise UserError(
                f"layers: {len(layers)} are kept, the student has {small.layers}"
            )
        return layers


def measured(whole: Merged, dataset: Dataset, *, rows: int) -> Importance:
    """Return the importance of the parts of a model over rows of the data.

    Raises:
      UserError: it is no `models.Transformer`.
    """
    make = functools.partial(whole.model, layers="separate")
    module = nnx.eval_shape(lambda key: make(rngs=nnx.Rngs(params=key)), abstract_key())
    if not isinstance(module, Transformer):
        raise UserError(f"importance is measured of a Transformer, not of {module}")
    split = SplitModule.of(module)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    params, variables = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), split.arrays()
    )
    arrays = tensors.place(tree_paths.by_path(params), whole.tensors)
    params = jax.tree.unflatten(jax.tree.structure(params), arrays.values())
    zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), variables)
    model = split.module(params, zeros)
    return measure(model, _batches(dataset.part(min(rows, len(dataset))), model.reads))


def _batches(dataset: Dataset, reads: frozenset[str]) -> Iterator[Batch]:
    for begin in range(0, len(dataset), _ROWS_AT_A_TIME):
        numbers = np.arange(begin, min(begin + _ROWS_AT_A_TIME, len(dataset)))
        rows = dataset.rows(numbers)
        yield {name: jax.numpy.asarray(rows[name]) for name in reads}


def _online(teacher: Any) -> OnlineTeacher:
    """Return the model that teaches, online or by its records.

    Raises:
      UserError: there is none.
    """
    teacher = getattr(teacher, "teacher", None) or teacher
    if not isinstance(teacher, OnlineTeacher):
        raise UserError(
            "FromTeacher: the experiment has no OnlineTeacher; say checkpoint='PATH'"
        )
    return teacher


def _as_tensors(abstract: Mapping[str, Any]) -> tensors.Tensors:
    def unread() -> np.ndarray:
        raise AssertionError("the student has no arrays yet")

    return {
        p: tensors.StoredTensor(x.shape, x.dtype, unread) for p, x in abstract.items()
    }


def _check_sizes(large: Sizes, small: Sizes, *, num_ids: int, path: str) -> None:
    """Refuse a student that is not smaller.

    Raises:
      UserError: naming the size.
    """
    for field in dataclasses.fields(Sizes):
        has, wants = getattr(large, field.name), getattr(small, field.name)
        if wants > has:
            raise UserError(f"{path} has {has} {field.name}, the student {wants}: more")
    if large.heads // large.kv_heads < small.heads // small.kv_heads:
        raise UserError(
            f"the student has {small.heads // small.kv_heads} heads a key, "
            f"{path} only {large.heads // large.kv_heads}"
        )
    if small.vocabulary < num_ids:
        raise UserError(f"{small.vocabulary} outputs for {num_ids} tokens")
