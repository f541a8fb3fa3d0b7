"""Weights of a run of ours: the student in one of its checkpoints."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from models.base import Model
from runner.checkpoint import manifest, tree_paths
from runner.data.labels import Classes, Labels
from runner.errors import UserError
from runner.files import form
from runner.weights import identity
from runner.weights.base import Weights

if TYPE_CHECKING:  # orbax waits for the first weights
    from runner.checkpoint.checkpoints import Checkpoints

Tree = Any


@dataclasses.dataclass(frozen=True)
class _Vocabulary:
    digest: str
    size: int = 0
    classes: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class _Dataset:
    vocabulary: _Vocabulary
    sequence_length: int | None = None


@dataclasses.dataclass(frozen=True)
class _Data:
    """The part of `data.json` that says what the student learnt from."""

    train_data: _Dataset


class RunWeights(Weights):
    """The student of a run, at its newest whole checkpoint."""

    def __init__(self, checkpoint: str):
        self._path = Path(checkpoint).expanduser()
        with self._checkpoints() as checkpoints:
            step = checkpoints.latest_verified()
        if step is None:
            raise UserError(f"{checkpoint} holds no whole checkpoint")
        self._step = step
        directory = self._path / "checkpoints" / f"{step:08d}"
        sealed = manifest.read(directory, step=step)
        self._saved = sealed.leaves
        digests = {name: x.sha256 for name, x in sorted(sealed.files.items())}
        self.digest = hashlib.blake2b(
            json.dumps(digests).encode(), digest_size=16
        ).hexdigest()

    @functools.cached_property
    def model(self) -> Callable[..., Model]:  # pyright: ignore[reportIncompatibleVariableOverride] - read when asked for
        """The student of the saved graph."""
        import fiddle as fdl

        from runner.graph import build, to_json

        path = self._path / "config.json"
        student = getattr(to_json.load(str(path)), "student", None)
        if not isinstance(student, fdl.Partial):
            raise UserError(f"{path} has no student")
        try:
            return build.objects(student)
        except UserError as error:
            raise UserError(f"{path}: student: {error}") from error

    @functools.cached_property
    def context(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride] - read when asked for
        """Positions in a row that it was trained on."""
        return self._train_data.sequence_length

    @functools.cached_property
    def _train_data(self) -> _Dataset:
        path = self._path / "data.json"
        with form.of_file(path):
            return form.read(_Data, path).train_data
        raise UserError(f"{path} is missing, which says what it learnt from")

    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        theirs = self._train_data.vocabulary
        same = theirs.digest == vocabulary.digest
        if theirs.classes is not None or isinstance(vocabulary, Classes):
            if same:
                return
            trained = f"{theirs.size} tokens"
            if theirs.classes is not None:
                trained = Classes(theirs.classes).summary
            raise UserError(
                f"{self._path} was trained on {trained}, the data has "
                f"{vocabulary.summary}"
            )
        tokenizer = self._path / identity.TOKENIZER
        if not same or tokenizer.is_file():  # which has names, too
            identity.require_same(tokenizer, vocabulary, cache=cache)

    def read(self, abstract: Tree) -> Tree:
        wanted = {part: {"student": arrays} for part, arrays in abstract.items()}
        paths = tree_paths.by_path(wanted)
        as_saved = [self._as_saved(path, leaf) for path, leaf in paths.items()]
        with self._checkpoints() as checkpoints:
            arrays = checkpoints.restore_part(
                self._step, jax.tree.unflatten(jax.tree.structure(wanted), as_saved)
            )
        cast = jax.tree.map(lambda x, leaf: x.astype(leaf.dtype), arrays, wanted)
        return {part: cast[part]["student"] for part in abstract}

    def _checkpoints(self) -> "Checkpoints":
        from runner.checkpoint.checkpoints import Checkpoints

        return Checkpoints(self._path / "checkpoints", keep=1)

    def _as_saved(self, path: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The leaf in the type it was saved in; what is missing is named on restore."""
        dtype = self._saved[path].dtype if path in self._saved else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)
