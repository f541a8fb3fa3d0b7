"""Weights of a run of ours: the student in one of its checkpoints."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from models import views
from models.base import Model, unwrapped
from runner.checkpoint import choice, manifest, tree_paths
from runner.checkpoint.directory import CheckpointDirectory
from runner.data.labels import Classes, Labels
from runner.errors import UserError, nearest
from runner.files import form
from runner.weights import identity
from runner.weights.base import Weights
from runner.weights.tensors import StoredTensor, Tensors, unstacked

if TYPE_CHECKING:  # orbax waits for the first weights
    from runner.checkpoint.checkpoints import Checkpoints

AVERAGES = "opt_state/averages/"
"""Where a train state has the averages of `runner.averages`, by name."""

Tree = Any
Step = int | Literal["best"] | None


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
    """The student of a run at one of its checkpoints.

    Args:
      checkpoint: the run's work directory.
      step: `"best"` for the one that `keep_best` kept, None for the newest whole one.
      average: of the weights, to stand in their place (`runner.averages`); "" for none.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.

    Attributes:
      step: of the checkpoint.
    """

    def __init__(self, checkpoint: str, step: Step = None, average: str = ""):
        self._path = Path(checkpoint).expanduser().absolute()  # for orbax
        read_sealed = manifest.check
        if step == choice.BEST:
            step = choice.best_step(self._path)
        if step is None:  # the newest is checked as it is looked for
            step, read_sealed = self._newest(), manifest.read
        elif step not in (steps := self._steps()):
            there = ", ".join(map(str, steps)) or "none"
            raise UserError(f"{checkpoint} has no checkpoint of step {step}: {there}")
        self.step = step
        self._directory = self._path / "checkpoints" / f"{step:08d}"
        try:
            sealed = read_sealed(self._directory, step=step)
        except manifest.CorruptCheckpoint as error:
            raise UserError(f"{self._directory}: {error}") from error
        self._saved = sealed.leaves
        self._averaged = self._places_of(average)
        digests = {name: x.sha256 for name, x in sorted(sealed.files.items())}
        self.digest = hashlib.blake2b(
            json.dumps(digests).encode(), digest_size=16
        ).hexdigest()

    @functools.cached_property
    def model(self) -> Callable[..., Model]:  # pyright: ignore[reportIncompatibleVariableOverride] - read when asked for
        """The student of the saved graph, without views of a batch."""
        import fiddle as fdl

        from runner.graph import build, to_json

        path = self._path / "config.json"
        student = getattr(to_json.load(str(path)), "student", None)
        if not isinstance(student, fdl.Partial):
            raise UserError(f"{path} has no student")
        try:
            return unwrapped(build.objects(student), views.Views)
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

    def _places_of(self, average: str) -> dict[str, str]:
        """Return where an average has the student's parameters, by their own paths.

        Raises:
          UserError: the run kept no such average.
        """
        if not average:
            return {}
        there = {
            path.split("/")[2]: None
            for path in self._saved
            if path.startswith(AVERAGES) and "/mean/student/" in path
        }
        if average not in there:
            hint = nearest(average, there) or "; it has none"
            raise UserError(f"{self._path} has no average {average!r}{hint}")
        prefix = f"{AVERAGES}{average}/mean/student/"
        return {
            f"params/student/{path.removeprefix(prefix)}": path
            for path in self._saved
            if path.startswith(prefix)
        }

    def _steps(self) -> list[int]:
        return CheckpointDirectory(self._path / "checkpoints", keep=1).steps()

    def _newest(self) -> int:
        with self._checkpoints() as checkpoints:
            step = checkpoints.latest_verified()
        if step is None:
            raise UserError(f"{self._path} holds no whole checkpoint")
        return step

    def tensors(self) -> Tensors:
        named: dict[str, StoredTensor] = {}
        for own in self._saved:
            path = self._averaged.get(own, own)
            leaf = self._saved[path]
            for prefix in ("params/student/", "variables/student/"):
                if own.startswith(prefix):
                    named[own.removeprefix(prefix)] = StoredTensor(
                        leaf.shape, leaf.dtype, functools.partial(self._leaf, path)
                    )
        return unstacked(named)

    @property
    def trained(self) -> list[str]:
        """Paths of the student's parameters that were trained, as they are saved."""
        prefix = "params/student/"
        return [p.removeprefix(prefix) for p in self._saved if p.startswith(prefix)]

    def _leaf(self, path: str) -> np.ndarray:
        from runner.checkpoint import restoring

        leaf = self._saved[path]
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        asked = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)}
        restored = restoring.restore_leaves(
            self._directory, asked, saved=self._saved, where=str(self._directory)
        )
        return np.asarray(restored[path])

    def read(self, abstract: Tree) -> Tree:
        named = {part: {"student": arrays} for part, arrays in abstract.items()}
        wanted = tree_paths.by_path(named)
        # Frozen parameters are saved among the variables.
        saved_as = {path: self._saved_path(path) for path in wanted}
        asked = {saved_as[p]: self._as_saved(saved_as[p], x) for p, x in wanted.items()}
        with self._checkpoints() as checkpoints:
            arrays = checkpoints.restore_part(self.step, asked)
        cast = [arrays[saved_as[p]].astype(x.dtype) for p, x in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(abstract), cast)

    def _saved_path(self, path: str) -> str:
        frozen = "variables/" + path.partition("/")[2]
        if path not in self._saved and frozen in self._saved:
            return frozen
        return self._averaged.get(path, path)

    def _checkpoints(self) -> "Checkpoints":
        from runner.checkpoint.checkpoints import Checkpoints

        return Checkpoints(self._path / "checkpoints", keep=1)

    def _as_saved(self, path: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The leaf in the type it was saved in; what is missing is named on restore."""
        dtype = self._saved[path].dtype if path in self._saved else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)
