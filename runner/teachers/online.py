"""A model with weights from a file, run beside the student."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from models.base import Model
from runner.checkpoint import tree_paths
from runner.data.text.tokenizer import TokenizerSource
from runner.errors import UserError, prefixed
from runner.state.split_module import SplitModule
from runner.state.trainable import abstract_key
from runner.teachers.base import Teacher, TeacherContext
from runner.teachers.model import LoadedModel
from runner.weights import identity, opening, some_tokens
from runner.weights.base import UnreadWeights, Weights
from runner.weights.some_tokens import SomeTokens

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineTeacher(Teacher):
    """A trained model: its trunk runs in every step, its head a block at a time.

    Attributes:
      checkpoint: the work directory of a run of ours (its newest whole checkpoint); a
        directory of `config.json` and `model*.safetensors`; a `.gguf` file.
      model: None for the one that the checkpoint describes.
      dtype: of parameters and activations. None keeps each parameter in the type that
        the file stores, float32 if it is quantized, and activations in the model's own:
        the numbers are those of float32 parameters. A `model` has its own of both.
      settings: entries of `config.json` that are read in place of a published model's
        own. A `.gguf` file cannot say `hidden_act`, `sliding_window` (of all layers)
        and `norm_topk_prob`; without a setting they are what llama.cpp takes. In a
        folder, None reads the model without an entry.
      tokenizer: that the model was trained with, where its files have none, or one that
        cannot be read. Otherwise that of the files.

    Its weights are arguments of the compiled step: sharded like any model's, never
    donated, never seen by the optimiser. Its tokenizer must be the data's, id by id.
    A dry run does not look at the files of a teacher whose `model` is given.
    """

    checkpoint: str
    model: Callable[..., Model] | None = None
    dtype: str | None = None
    settings: Mapping[str, Any] | None = None
    tokenizer: TokenizerSource | None = None

    def check(self) -> None:
        with prefixed("checkpoint"):
            opening.find(self.checkpoint)
        if self.tokenizer is not None:
            self.tokenizer.check()

    def check_shapes(self) -> None:
        """Refuse what has no shapes: neither a model nor files.

        Raises:
          UserError: no model is given, and the files are missing.
        """
        if self.model is None:
            self.check()

    def identity(self) -> str:
        return self._open().digest

    def load(self, context: TeacherContext) -> "LoadedOnline":
        planned = context.dry and self.model is not None
        source = UnreadWeights(self.checkpoint) if planned else self._open()
        if not planned:
            with prefixed("teacher"):
                source = identity.speaking(
                    source, context.vocabulary, self.tokenizer, cache=context.cache
                )
        with prefixed("checkpoint"):
            make = self.model or source.model
            if self.model is not None and isinstance(source, SomeTokens):
                make = some_tokens.with_vocabulary(make, context.vocabulary.size)
        if self.dtype is not None:
            make = functools.partial(make, dtype=self.dtype, param_dtype=self.dtype)
        return LoadedOnline(
            make,
            source,
            context,
            name=self.checkpoint,
            as_stored=self.dtype is None and self.model is None,
        )

    def _open(self) -> Weights:
        with prefixed("checkpoint"):
            return opening.open_weights(self.checkpoint, self.settings)


class LoadedOnline(LoadedModel):
    """A model whose arrays are read from files.

    Args:
      make: the model.
      source: its files.
      context: surroundings.
      name: of the files, for messages.
      as_stored: whether parameters have the types of the files, not those of `make`.
    """

    def __init__(
        self,
        make: Callable[..., Model],
        source: Weights,
        context: TeacherContext,
        *,
        name: str,
        as_stored: bool = False,
    ):
        module = nnx.eval_shape(
            lambda key: make(rngs=nnx.Rngs(params=key)), abstract_key()
        )
        self._split_module, self._weights = SplitModule.of(module), source
        size = context.vocabulary.size
        super().__init__(self._split_module.module, size)
        if module.num_outputs < size:
            raise UserError(
                f"teacher {name}: {module.num_outputs} outputs for "
                f"{context.vocabulary.summary}"
            )
        self.cautions = tuple(
            f"teacher {name}: {caution}"
            for caution in source.cautions(context.positions)
        )
        self.abstract = _placed(
            self._split_module.arrays(),
            self._split_module.shardings(context.mesh, context.rules),
        )
        if as_stored:
            params = self.abstract["params"]
            self.abstract["params"] = _with_dtypes(params, source.stored_dtypes(params))

    def read(self) -> Tree:
        with prefixed("checkpoint"):
            return self._weights.read(self.abstract)

    def abstract_model(self) -> Model:
        return self._split_module.module(*self._split_module.arrays())

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "online", "weights": self._weights.digest}

    def arrays(self, frozen: Tree, ema: Tree) -> Tree:
        del ema
        return frozen


def _placed(arrays: tuple[Tree, Tree], shardings: tuple[Tree, Tree]) -> dict[str, Tree]:
    """Return abstract `{"params": ..., "variables": ...}` in their shardings."""
    params, variables = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        arrays,
        shardings,
    )
    return {"params": params, "variables": variables}


def _with_dtypes(abstract: Tree, dtypes: Mapping[str, Any]) -> Tree:
    """Return abstract arrays with other dtypes, by path."""
    leaves = [
        jax.ShapeDtypeStruct(x.shape, dtypes.get(path, x.dtype), sharding=x.sharding)
        for path, x in tree_paths.by_path(abstract).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)
