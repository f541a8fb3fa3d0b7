"""Weights in files: of a run of ours, or of a published model."""

import abc
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from models import layers
from models.base import Model
from runner.checkpoint import manifest, tree_paths
from runner.data.labels import Classes, Labels
from runner.errors import UserError
from runner.files import form

if TYPE_CHECKING:  # safetensors and orbax wait for the first weights
    from models.pretrained import Pretrained
    from runner.checkpoint.checkpoints import Checkpoints

Tree = Any
TOKENIZER = "tokenizer.json"
_GIVE_TOKENIZER = "if you have it elsewhere: tokenizer=data.TokenizerFile(file=...)"
UNREAD = "not looked at"
"""The digest of files that a dry run leaves closed."""


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


class Weights(abc.ABC):
    """A model in files.

    Attributes:
      model: makes it, as the files describe it.
      digest: 32 hexadecimal digits, equal when the files are.
      context: positions of the longest text it was made for; None where unsaid.
    """

    model: Callable[..., Model]
    digest: str
    context: int | None = None

    @abc.abstractmethod
    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        """Refuse data whose ids stand for other tokens than the model's.

        Raises:
          UserError: with the first tokens that differ.
        """

    def stored_dtypes(self, params: Tree) -> Mapping[str, Any]:
        """Return the dtypes in which parameters of `model` are stored, by path.

        Those that are not named have the model's own.
        """
        del params
        return {}

    @abc.abstractmethod
    def read(self, abstract: Tree) -> Tree:
        """Return arrays of `{"params": ..., "variables": ...}`, placed as `abstract`.

        Raises:
          UserError: an array is missing, or of another shape.
        """

    def cautions(self, positions: int) -> tuple[str, ...]:
        """Return what is worth a word before it reads rows of so many positions."""
        if self.context is None or positions <= self.context:
            return ()
        return (
            f"rows of {positions} positions, more than the {self.context} it was made "
            "for: of documents that go on beyond these it may know nothing",
        )


def find(checkpoint: str) -> type[Weights]:
    """Return the class for the files at a path; nothing is read.

    Raises:
      UserError: none does.
    """
    if (Path(checkpoint).expanduser() / "checkpoints").is_dir():
        return RunWeights
    from models import pretrained

    try:
        pretrained.locate(checkpoint)
    except ValueError as error:
        also = "; a trained run's work directory serves too"
        hint = "" if checkpoint.startswith(pretrained.PACKAGE) else also
        raise UserError(f"checkpoint: {error}{hint}") from None
    return PretrainedWeights


def open_weights(checkpoint: str, settings: Mapping[str, Any] | None = None) -> Weights:
    """Return the weights at a path.

    Args:
      checkpoint: path of a run of ours or of a published model.
      settings: entries of `config.json` in place of a published model's own.

    Raises:
      UserError: none are, or they are damaged.
    """
    kind = find(checkpoint)
    if kind is PretrainedWeights:
        return PretrainedWeights(checkpoint, settings)
    if settings:
        raise UserError(
            f"settings are of published models; {checkpoint} is a run of ours, whose "
            "graph says all"
        )
    return kind(checkpoint)  # pyright: ignore[reportCallIssue] - each takes it


class RunWeights(Weights):
    """The student of a run, at its newest whole checkpoint."""

    def __init__(self, checkpoint: str):
        self._path = Path(checkpoint).expanduser()
        with self._checkpoints() as checkpoints:
            step = checkpoints.latest_verified()
        if step is None:
            raise UserError(f"checkpoint: {checkpoint} holds no whole checkpoint")
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
            raise UserError(f"checkpoint: {path} has no student")
        try:
            return build.objects(student)
        except UserError as error:
            raise UserError(f"checkpoint: {path}: student: {error}") from error

    @functools.cached_property
    def context(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride] - read when asked for
        """Positions in a row that it was trained on."""
        return self._train_data.sequence_length

    @functools.cached_property
    def _train_data(self) -> _Dataset:
        path = self._path / "data.json"
        with form.of_file(path):
            return form.read(_Data, path).train_data
        raise UserError(f"teacher: {path} is missing, which says what it learnt from")

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
                f"teacher: {self._path} was trained on {trained}, the data has "
                f"{vocabulary.summary}"
            )
        if not same or (self._path / TOKENIZER).is_file():  # which has names, too
            _require_same(self._path / TOKENIZER, vocabulary, cache=cache)

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


class UnreadWeights(Weights):
    """Files that a dry run does not look at."""

    digest = UNREAD

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        del vocabulary, cache

    def read(self, abstract: Tree) -> Tree:
        raise UserError(f"checkpoint: {self._checkpoint} was not looked at")


class PretrainedWeights(Weights):
    """A published model: safetensors with a `config.json`, or GGUF."""

    def __init__(self, checkpoint: str, settings: Mapping[str, Any] | None = None):
        from models import pretrained

        self._name = checkpoint
        try:
            self._pretrained: Pretrained = pretrained.open_model(
                checkpoint, settings=settings
            )
        except ValueError as error:
            raise UserError(f"checkpoint: {error}") from error
        self.model = self._pretrained.model
        self.context = self._pretrained.context

    def cautions(self, positions: int) -> tuple[str, ...]:
        assumed = self._pretrained.assumed
        if not assumed:
            return super().cautions(positions)
        values = ", ".join(f"{name} {value!r}" for name, value in assumed.items())
        return (
            f"read with {values}, as llama.cpp does: a .gguf file does not say. Where "
            "the model's config.json says otherwise, set it by `settings`",
            *super().cautions(positions),
        )

    @property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - hashes files
        """Of the files' content."""
        return self._pretrained.digest

    def check_vocabulary(self, vocabulary: Labels, *, cache: str) -> None:
        from models import pretrained

        if isinstance(vocabulary, Classes):
            raise UserError(
                f"teacher: {self._name} speaks tokens, the data has "
                f"{vocabulary.summary}"
            )
        path = pretrained.locate(self._name)
        if path.is_dir():
            return _require_same(path / TOKENIZER, vocabulary, cache=cache)
        from runner.data import GGUFTokenizer

        try:
            theirs = GGUFTokenizer(file=self._name).load(cache=cache)
        except UserError as error:
            raise UserError(f"teacher: {error}\n{_GIVE_TOKENIZER}") from error
        compare(theirs, vocabulary, where=str(path))

    def stored_dtypes(self, params: Tree) -> Mapping[str, Any]:
        return self._pretrained.dtypes(layers=layers.form_of(params))

    def read(self, abstract: Tree) -> Tree:
        try:
            arrays = self._pretrained.arrays(layers=layers.form_of(abstract["params"]))
        except ValueError as error:
            raise UserError(f"checkpoint: {error}") from error
        have, wanted = (
            tree_paths.by_path(arrays),
            tree_paths.by_path(abstract["params"]),
        )
        for path, leaf in wanted.items():
            if path not in have or have[path].shape != leaf.shape:
                shape = have[path].shape if path in have else "nothing"
                raise UserError(
                    f"checkpoint: {self._name}: {path} should be {leaf.shape}, "
                    f"the file has {shape}"
                )
        params = [_placed(have[path], leaf) for path, leaf in wanted.items()]
        structure = jax.tree.structure(abstract["params"])
        variables = jax.tree.map(_zeros, abstract["variables"])
        return {"params": jax.tree.unflatten(structure, params), "variables": variables}


def _placed(array: np.ndarray, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """The array in its dtype and sharding; each device's part is cast on its own."""
    return jax.make_array_from_callback(
        leaf.shape, leaf.sharding, lambda part: array[part].astype(leaf.dtype)
    )


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.numpy.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)


def _require_same(file: Path, vocabulary: Labels, *, cache: str) -> None:
    from runner.data import TokenizerFile

    if not file.is_file():
        raise UserError(
            f"teacher: {file} is missing, so that its ids cannot be compared with the "
            f"data's\n{_GIVE_TOKENIZER}"
        )
    theirs = TokenizerFile(file=str(file)).load(cache=cache)
    compare(theirs, vocabulary, where=str(file))


def compare(theirs: Labels, ours: Labels, *, where: str) -> None:
    """Refuse data whose ids stand for other tokens than a teacher's.

    Args:
      theirs: The teacher's.
      ours: The data's; ids that are only planned mean nothing yet.
      where: The teacher's tokenizer, for messages.

    Raises:
      UserError: With the first tokens that differ.
    """
    from runner.data.text.token_identity import differences
    from runner.data.text.vocabulary import Vocabulary

    assert isinstance(theirs, Vocabulary)
    message = differences(theirs, ours) if isinstance(ours, Vocabulary) else ""
    if message:
        raise UserError(
            f"teacher: another tokenizer than the data's ({where}):\n{message}"
        )
