"""The student of a run at a step, and all that its work directory tells of it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner.checkpoint import choice
from runner.data import TokenizerFile
from runner.data.text.vocabulary import Vocabulary
from runner.report import run as reports
from runner.weights import adapters, identity
from runner.weights.run import RunWeights


@dataclasses.dataclass(frozen=True)
class Student:
    """A model in a checkpoint.

    Attributes:
      model: makes it.
      arrays: its parameters by path, each read when it is converted to NumPy.
      dtype: in which they are stored, the widest of them.
      step: of the checkpoint.
      digest: of the checkpoint.
      context: positions of the rows that it was trained on.
      vocabulary: whose ids it speaks; None where the data has no tokenizer.
      begins: whether the tokenizer puts `begin` before a text.
      run: the work directory, as a report tells it.
    """

    model: Callable[..., Any]
    arrays: Mapping[str, Any]
    dtype: str
    step: int
    digest: str
    context: int
    vocabulary: Vocabulary | None
    begins: bool
    run: reports.Run

    @property
    def begin(self) -> str:
        """The token that the first of a text is predicted from, "" for none."""
        return self._token("begin")

    @property
    def end(self) -> str:
        """The token that ends a text, "" for none."""
        return self._token("end")

    def _token(self, place: str) -> str:
        if self.vocabulary is None:
            return ""
        index = getattr(self.vocabulary, place)
        return self.vocabulary.tokenizer.id_to_token(index) or ""


def read(workdir: str, step: int | str | None) -> Student:
    """Open the student of a run.

    Args:
      workdir: of the run.
      step: None for the newest whole checkpoint, `"best"` for the best.

    Raises:
      UserError: there is no such checkpoint, or the work directory is damaged.
    """
    path = Path(workdir).expanduser().absolute()
    number = choice.best_step(path) if isinstance(step, str) else step
    weights = RunWeights(str(path), number)
    run = reports.load(path)
    data = run.data.get("train_data", {})
    begin, end = (str(data.get(name) or "") for name in ("begin", "end"))
    vocabulary = _vocabulary(path, end=end)
    whole = adapters.merged(weights)
    arrays = {
        p: _Read(tensor.shape, tensor.read) for p, tensor in whole.tensors.items()
    }
    dtypes = {str(tensor.dtype) for tensor in whole.tensors.values()}
    return Student(
        model=whole.model,
        arrays=arrays,
        dtype=dtypes.pop() if len(dtypes) == 1 else "float32",
        step=weights.step,
        digest=weights.digest,
        context=weights.context or 0,
        vocabulary=vocabulary and vocabulary.with_ends(begin=begin),
        begins=vocabulary is not None and bool(vocabulary.ends.begin),
        run=run,
    )


def _vocabulary(workdir: Path, *, end: str) -> Vocabulary | None:
    file = workdir / identity.TOKENIZER
    if not file.is_file():
        return None
    return TokenizerFile(file=str(file), end=end).load()


@dataclasses.dataclass(frozen=True)
class _Read:
    """An array in a file, read each time it is converted to NumPy."""

    shape: tuple[int, ...]
    read: Callable[[], Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        del dtype, copy
        return _read_once(self.read)


@functools.lru_cache(maxsize=1)  # one expert after another is cut out of one array
def _read_once(read: Callable[[], Any]) -> Any:
    return read()
