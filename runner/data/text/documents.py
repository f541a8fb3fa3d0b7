"""Sources of documents: text files and JSON lines."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runner.data import file_forms
from runner.data.paths import read_text, resolve
from runner.errors import UserError, nearest
from runner.graph.job import Checked


@dataclasses.dataclass(frozen=True)
class Document:
    """One text, with a name that is the same on every machine."""

    name: str
    text: str


class Documents(Checked, abc.ABC):
    """Documents in a fixed order, read anew by each iteration."""

    @abc.abstractmethod
    def check(self) -> None:
        """Run the cheap checks, before any device work.

        Raises:
          UserError: A file is missing.
        """

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
          UserError: A file cannot be read, or its content is not valid.
        """

    def describe(self) -> Mapping[str, str]:
        """Return what is needed to get the same documents elsewhere."""
        return {}


@dataclasses.dataclass(frozen=True)
class TextFiles(Documents):
    """UTF-8 files, one document each.

    Attributes:
      files: Paths, directories (all files below that are not hidden) and globs, in
        which `**` stands for any number of directories.
    """

    files: Sequence[str]

    def check(self) -> None:
        resolve(self.files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in resolve(self.files):
            yield Document(name=name, text=read_text(path))


@dataclasses.dataclass(frozen=True)
class JsonLines(Documents):
    """JSON lines, one document each; blank lines are skipped.

    Attributes:
      files: Paths, directories and globs, as in `TextFiles`.
      field: Key of the JSON object whose string is the document.
    """

    files: Sequence[str]
    field: str = "text"

    def check(self) -> None:
        resolve(self.files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in resolve(self.files):
            with path.open("rb") as lines:
                if form := file_forms.describe(lines.peek(file_forms.LONGEST)):
                    raise UserError(f"{path} is {form}")
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        text = _field(line, self.field, f"{path}:{number}")
                        yield Document(name=f"{name}:{number}", text=text)


def _field(line: bytes, field: str, place: str) -> str:
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{place}: not JSON: {error.msg} (column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(";")[0]
        raise UserError(f"{place}: not JSON that can be read: {reason}") from error

    # An object whose field is text.
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise UserError(f"{place}: expected a JSON object, got {kind}")
    if field not in record:
        raise UserError(f"{place}: no field {field!r}{nearest(field, record)}")
    text = record[field]
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UserError(f"{place}: field {field!r} must be a string, got {kind}")

    # JSON can spell what UTF-8 cannot.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: field {field!r} holds half a surrogate pair"
        ) from error
    return text


class Digest:
    """Running blake2b hash of the names and contents of documents.

    Attributes:
      documents: Number of documents hashed.
      bytes: Their UTF-8 bytes.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(b"retort documents 1", digest_size=16)
        self.documents = 0
        self.bytes = 0

    def update(self, document: Document) -> None:
        """Add the next document; its lengths keep texts from running together."""
        name, text = document.name.encode(), document.text.encode()
        self._hash.update(f"{len(name)} {len(text)} ".encode() + name)
        self._hash.update(text)
        self.documents += 1
        self.bytes += len(text)

    def hexdigest(self) -> str:
        """Return the hash so far, 32 hexadecimal digits."""
        return self._hash.hexdigest()


def digest(documents: Iterable[Document]) -> Digest:
    """Return the digest of some documents, with one at a time in memory."""
    hashed = Digest()
    for document in documents:
        hashed.update(document)
    return hashed
