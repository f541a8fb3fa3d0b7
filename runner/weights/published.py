"""Weights of a published model: a Hugging Face folder, or GGUF."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from models import layers
from runner.checkpoint import tree_paths
from runner.data.labels import Classes, Labels
from runner.errors import UserError
from runner.weights import identity
from runner.weights.base import Weights
from runner.weights.tensors import StoredTensor, Tensors, place

Tree = Any


class PublishedWeights(Weights):
    """A published model: safetensors with a `config.json`, or GGUF.

    Args:
      checkpoint: path of its folder or file.
      settings: entries of `config.json` in place of its own.

    Raises:
      UserError: it is not there, or of no supported family.
    """

    def __init__(self, checkpoint: str, settings: Mapping[str, Any] | None = None):
        from models import pretrained

        self._name = checkpoint
        try:
            self._pretrained = pretrained.open_model(checkpoint, settings=settings)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.model = self._pretrained.model
        self.context = self._pretrained.context

    def cautions(self, positions: int) -> tuple[str, ...]:
        lines = []
        if assumed := self._pretrained.assumed:
            values = ", ".join(f"{name} {value!r}" for name, value in assumed.items())
            lines.append(
                f"read with {values}, as llama.cpp does: a .gguf file does not say. "
                "Where the model's config.json says otherwise, set it by `settings`"
            )
        if skipped := self._pretrained.skipped:
            lines.append(
                f"{len(skipped)} tensors of layers after the last, which predict "
                f"further tokens, are not read: {skipped[0]} ..."
            )
        return (*lines, *super().cautions(positions))

    @property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - hashes files
        """Of the files' content."""
        return self._pretrained.digest

    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        from models import pretrained

        if isinstance(vocabulary, Classes):
            raise UserError(
                f"{self._name} speaks tokens, the data has {vocabulary.summary}"
            )
        path = pretrained.locate(self._name)
        if path.is_dir():
            return identity.require_same(
                path / identity.TOKENIZER, vocabulary, cache=cache
            )
        from runner.data import GGUFTokenizer

        try:
            theirs = GGUFTokenizer(file=self._name).load(cache=cache)
        except UserError as error:
            raise UserError(f"{error}\n{identity.GIVE_TOKENIZER}") from error
        identity.compare(theirs, vocabulary, where=str(path))

    def stored_dtypes(self, params: Tree) -> Mapping[str, Any]:
        return self._pretrained.dtypes(layers=layers.form_of(params))

    def tensors(self) -> Tensors:
        return self._tensors("separate")

    def _tensors(self, form: str) -> Tensors:
        try:
            readers = self._pretrained.readers(layers=form)
        except ValueError as error:
            raise UserError(str(error)) from error
        shapes = self._pretrained.shapes(layers=form)
        dtypes = self._pretrained.dtypes(layers=form)
        return {
            path: StoredTensor(
                shapes[path], dtypes[path], functools.partial(_read, readers[path])
            )
            for path in readers
        }

    def read(self, abstract: Tree) -> Tree:
        wanted = tree_paths.by_path(abstract["params"])
        tensors = self._tensors(layers.form_of(abstract["params"]))
        for path, leaf in wanted.items():
            if path not in tensors or tensors[path].shape != leaf.shape:
                shape = tensors[path].shape if path in tensors else "nothing"
                raise UserError(
                    f"{self._name}: {path} should be {leaf.shape}, the file has {shape}"
                )
        structure = jax.tree.structure(abstract["params"])
        params = place(wanted, tensors).values()
        others = tree_paths.by_path(abstract["variables"])
        stored = {path: leaf for path, leaf in others.items() if path in tensors}
        placed = place(stored, tensors)
        variables = [placed.get(path, _zeros(leaf)) for path, leaf in others.items()]
        return {
            "params": jax.tree.unflatten(structure, params),
            "variables": jax.tree.unflatten(
                jax.tree.structure(abstract["variables"]), variables
            ),
        }


def _read(read: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return read()
    except ValueError as error:
        raise UserError(str(error)) from error


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.numpy.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
