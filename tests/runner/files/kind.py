"""A kind of file that is read, and what its reader says of edits."""

import contextlib
import dataclasses
import io
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import UserError
from tests.runner.files import edits


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      name: for people.
      folder: copied for each kind; the reader is called with its copy.
      file: the one to edit, below it.
      read: reads the folder; raises UserError for what it refuses.
      reseal: makes digests agree with the new content.
      edits: as many as it gets at most.
      lines: of a refusal, at most.
      slow: whether an edit takes more than a fast test has.
    """

    name: str
    folder: Path
    file: str
    read: Callable[[Path], Any]
    reseal: Callable[[Any], Any] | None = None
    edits: int = 100
    lines: int = 3
    slow: bool = False

    def content(self) -> bytes:
        """The file as it is."""
        return (self.folder / self.file).read_bytes()


def answer(kind: Kind, content: bytes, directory: Path) -> str:
    """What the reader says of a file of this content: nothing, or why it refuses it.

    Raises:
      Exception: it would be a traceback.
    """
    folder = directory / "copy"
    shutil.copytree(kind.folder, folder)
    (folder / kind.file).write_bytes(content)
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            kind.read(folder)
    except UserError as error:
        assert str(error), "a refusal without a word"
        return str(error)
    finally:
        shutil.rmtree(folder)
    return ""


def count(kind: Kind, directory: Path) -> tuple[int, list[str]]:
    """Number of edits that are refused, and the tracebacks of others."""
    refused, tracebacks = 0, []
    for number in range(kind.edits):
        content = edits.edit(kind.name, kind.file, kind.content(), number, kind.reseal)
        try:
            refused += bool(answer(kind, content, directory))
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            tracebacks.append(f"edit {number}: {type(error).__name__} at {place}")
    return refused, tracebacks
