"""A model that speaks some of its tokens: rows of its embedding and its head."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from models import layers
from models.base import Model
from runner.checkpoint import tree_paths
from runner.data.labels import Labels
from runner.data.text.vocabulary import Cut
from runner.errors import UserError
from runner.weights import tensors as tensors_lib
from runner.weights.base import Weights
from runner.weights.tensors import StoredTensor, Tensors

Tree = Any
_TABLES = ("embedding", "output")


class SomeTokens(Weights):
    """Weights of `whole` with a row for each id that stayed, in the new order.

    Its probabilities are those of the whole model given one of these tokens.

    Args:
      whole: speaks all tokens.
      cut: which of them stay.

    Raises:
      UserError: it is no `models.Transformer`.
    """

    def __init__(self, whole: Weights, cut: Cut):
        self._whole, self._ids = whole, cut.ids
        self.model = with_vocabulary(whole.model, len(cut.ids))
        self.context = whole.context
        hashed = hashlib.blake2b(f"{whole.digest} rows ".encode(), digest_size=16)
        hashed.update(cut.ids.astype("<i8").tobytes())
        self.digest = hashed.hexdigest()

    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        cut = getattr(vocabulary, "cut", None)
        if cut is None or not np.array_equal(cut.ids, self._ids):
            raise UserError("cut to the tokens of other data")
        self._whole.check_vocabulary(cut.whole, cache=cache)

    def cautions(self, positions: int) -> tuple[str, ...]:
        return self._whole.cautions(positions)

    def stored_dtypes(self, params: Tree) -> Mapping[str, Any]:
        return self._whole.stored_dtypes(params)

    def tensors(self) -> Tensors:
        tensors = dict(self._whole.tensors())
        for path in tensors.keys() & set(_TABLES):
            tensors[path] = self._rows(tensors[path])
        return tensors

    def _rows(self, table: StoredTensor) -> StoredTensor:
        if table.shape[0] <= int(self._ids.max()):
            raise UserError(
                f"{table.shape[0]} outputs, and token {int(self._ids.max())} is used"
            )
        return dataclasses.replace(
            table,
            shape=(len(self._ids), *table.shape[1:]),
            read=lambda: table.read()[self._ids],
            cut_from=table.cut_from or table.shape,
        )

    def read(self, abstract: Tree) -> Tree:
        form = self.tensors()
        if layers.form_of(abstract["params"]) == layers.STACKED:
            form = tensors_lib.stacked(form)
        wanted = tree_paths.by_path(abstract["params"])
        for path, leaf in wanted.items():
            if path not in form or form[path].shape != leaf.shape:
                shape = form[path].shape if path in form else "nothing"
                raise UserError(f"{path} should be {leaf.shape}, there is {shape}")
        beside = tree_paths.by_path(abstract["variables"])
        stored = {path: leaf for path, leaf in beside.items() if path in form}
        arrays = tensors_lib.place(wanted | stored, form)
        fresh = {path: _zeros(beside[path]) for path in beside.keys() - stored.keys()}
        return {
            part: jax.tree.unflatten(
                jax.tree.structure(abstract[part]),
                [(arrays | fresh)[path] for path in tree_paths.by_path(abstract[part])],
            )
            for part in ("params", "variables")
        }


def with_vocabulary(model: Callable[..., Model], size: int) -> Callable[..., Model]:
    """Return the model with another number of tokens, adapters around it or not.

    Raises:
      UserError: it has none.
    """
    fields = model.keywords if isinstance(model, functools.partial) else {}
    if "vocab_size" in fields:
        return functools.partial(model, vocab_size=size)
    if "model" in fields:
        return functools.partial(model, model=with_vocabulary(fields["model"], size))
    raise UserError("only a models.Transformer speaks some of its tokens")


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.numpy.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
