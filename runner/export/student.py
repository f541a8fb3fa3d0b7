"""The student of a run at a step, and all that its work directory tells of it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.adapters import low_rank
from models.lora import wrapper
from runner.checkpoint import choice
from runner.data import TokenizerFile
from runner.data.text.vocabulary import Vocabulary
from runner.files import form
from runner.report import run as reports
from runner.weights import adapters, drafts, factored_head, identity
from runner.weights.run import RunWeights


@dataclasses.dataclass(frozen=True)
class Adapters:
    """Adapters of a student, which are in its arrays too.

    Attributes:
      arrays: their parameters by path, one a layer.
      dtype: in which they are stored.
      rank: of each.
      alpha: of their scale, `alpha / rank`.
      base: the folder that the run started from; "" for another start.
      others: paths of what was trained beside them.
    """

    arrays: Mapping[str, Any]
    dtype: str
    rank: int
    alpha: float
    base: str
    others: Sequence[str]


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
      adapters: of a `models.LoRA`; None of another model.
      start: where its first weights came from, as `start.json` says it; empty for none.
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
    adapters: Adapters | None = None
    start: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def begin(self) -> str:
        """The token that the first of a text is predicted from, "" for none."""
        return self._token("begin")

    @property
    def end(self) -> str:
        """The token that ends a text, "" for none."""
        return self._token("end")

    @property
    def has_template(self) -> bool:
        """True if conversations are written in a way of its own."""
        return bool(self.vocabulary and self.vocabulary.chat.templates.get("default"))

    def _token(self, place: str) -> str:
        if self.vocabulary is None:
            return ""
        index = getattr(self.vocabulary, place)
        return self.vocabulary.tokenizer.id_to_token(index) or ""


def read(workdir: str, step: int | str | None, average: str = "") -> Student:
    """Open the student of a run.

    Args:
      workdir: of the run.
      step: None for the newest whole checkpoint, `"best"` for the best.
      average: of the weights, to stand in their place; "" for none.

    Raises:
      UserError: there is no such checkpoint, or the work directory is damaged.
    """
    path = Path(workdir).expanduser().absolute()
    number = choice.best_step(path) if isinstance(step, str) else step
    weights = RunWeights(str(path), number, average)
    run = reports.load(path)
    data = run.data.get("train_data", {})
    begin, end = (str(data.get(name) or "") for name in ("begin", "end"))
    vocabulary = _vocabulary(path, end=end)
    whole = factored_head.merged(drafts.left_out(adapters.merged(weights)))
    arrays = {
        p: StoredArray(tensor.shape, tensor.read) for p, tensor in whole.tensors.items()
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
        adapters=_adapters(weights, run),
        start=_start(path),
    )


def _start(workdir: Path) -> Mapping[str, Any]:
    source = form.entries(workdir / "start.json").get("source")
    return source if isinstance(source, Mapping) else {}


def _adapters(weights: RunWeights, run: reports.Run) -> Adapters | None:
    within = wrapper.within(weights.model)
    if within is None:
        return None
    arrays = {
        path: StoredArray(tensor.shape, tensor.read)
        for path, tensor in weights.tensors().items()
        if low_rank.is_of(path)
    }
    dtypes = {str(weights.tensors()[path].dtype) for path in arrays}
    start = run.config.get("start.path", "").strip("'")
    return Adapters(
        arrays=arrays,
        dtype=dtypes.pop(),
        rank=within.rank,
        alpha=within.alpha,
        base=start if Path(start).expanduser().is_dir() and start else "",
        others=[path for path in weights.trained if not low_rank.is_of(path)],
    )


def _vocabulary(workdir: Path, *, end: str) -> Vocabulary | None:
    file = workdir / identity.TOKENIZER
    if not file.is_file():
        return None
    return TokenizerFile(file=str(file), end=end).load()


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array in a file, read each time it is converted to NumPy."""

    shape: tuple[int, ...]
    read: Callable[[], Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        del dtype, copy
        return _read_once(self.read)

    def __getitem__(self, index: int) -> Any:
        return _read_once(self.read)[index]


@functools.lru_cache(maxsize=1)  # one expert after another is cut out of one array
def _read_once(read: Callable[[], Any]) -> Any:
    return read()
