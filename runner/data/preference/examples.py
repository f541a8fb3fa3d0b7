"""Sources of prompts with completions: records, and pairs made of documents."""

import abc
import dataclasses
from collections.abc import Iterator

from runner.data.documents.document import Documents
from runner.data.documents.records import Records
from runner.errors import UserError
from runner.graph.job import Checked


@dataclasses.dataclass(frozen=True)
class Example:
    """A prompt with completions.

    Attributes:
      name: The same on every machine.
      prompt: Before either completion; it may be empty.
      completions: Chosen and rejected; or the one that is judged.
      desirable: The judgement, where there is one.
    """

    name: str
    prompt: str
    completions: tuple[str, ...]
    desirable: bool = True


class Examples(Checked, abc.ABC):
    """Examples in a fixed order, read anew by each iteration."""

    @abc.abstractmethod
    def check(self) -> None:
        """Run the cheap checks, before any device work.

        Raises:
          UserError: A file is missing.
        """

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Example]:
        """Yield the examples.

        Raises:
          UserError: A file cannot be read, or its content is not valid.
        """


@dataclasses.dataclass(frozen=True)
class PairRecords(Examples):
    """Preference pairs of records: `{"prompt": "", "chosen": "", "rejected": ""}`.

    Attributes:
      records: JSON lines or tables.
      prompt: Column of the prompt, text.
      chosen: Column of the better completion, the text that follows the prompt.
      rejected: Column of the other one.
    """

    records: Records
    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"

    def check(self) -> None:
        self.records.check()

    def __iter__(self) -> Iterator[Example]:
        columns = (self.prompt, self.chosen, self.rejected)
        for record in self.records.records(columns):
            prompt, *completions = (record.text(column) for column in columns)
            yield Example(record.name, prompt, tuple(completions))


@dataclasses.dataclass(frozen=True)
class JudgedRecords(Examples):
    """Judged completions of records: `{"prompt": "", "completion": "", "label": true}`.

    Attributes:
      records: JSON lines or tables.
      prompt: Column of the prompt, text.
      completion: Column of the completion, the text that follows the prompt.
      label: Column of the judgement, true where the completion is desirable.
    """

    records: Records
    prompt: str = "prompt"
    completion: str = "completion"
    label: str = "label"

    def check(self) -> None:
        self.records.check()

    def __iter__(self) -> Iterator[Example]:
        columns = (self.prompt, self.completion, self.label)
        for record in self.records.records(columns):
            prompt, completion = (record.text(column) for column in columns[:2])
            label = record.value(self.label)
            if not isinstance(label, bool):
                raise UserError(
                    f"{record.place}: field {self.label!r} must be true or false, got "
                    f"{label!r}"
                )
            yield Example(record.name, prompt, (completion,), desirable=label)


@dataclasses.dataclass(frozen=True)
class Continuations(Examples):
    """Pairs made of documents: how each goes on, rather than what came before.

    A document is cut into pieces of `prompt_lines + completion_lines`. Chosen are the
    last lines of a piece, rejected those of the piece before it, of whatever document.
    No judgement of anyone's: data to try a preference loss on.

    Attributes:
      documents: Texts, in a fixed order.
      prompt_lines: Lines of the prompt.
      completion_lines: Lines of each completion.

    Raises:
      UserError: A number of lines is below 1.
    """

    documents: Documents
    prompt_lines: int = 8
    completion_lines: int = 4

    def __post_init__(self) -> None:
        for name in ("prompt_lines", "completion_lines"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check(self) -> None:
        self.documents.check()

    def __iter__(self) -> Iterator[Example]:
        other = None
        for document in self.documents:
            lines = document.text.splitlines(keepends=True)
            size = self.prompt_lines + self.completion_lines
            for start in range(0, len(lines) - size + 1, size):
                middle = start + self.prompt_lines
                chosen = "".join(lines[middle : start + size])
                if other is not None:
                    prompt = "".join(lines[start:middle])
                    yield Example(f"{document.name}:{start}", prompt, (chosen, other))
                other = chosen
