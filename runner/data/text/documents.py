"""Where documents come from: text files and JSON lines."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runner.data.paths import read_text, resolve
from runner.errors import UserError, nearest
from runner.graph.job import Checked


@dataclasses.dataclass(frozen=True)
class Document:
    """One text; `name` is the same on every machine."""

    name: str
    text: str


class Documents(Checked, abc.ABC):
    """Documents in a fixed order, read anew by each iteration."""

    @abc.abstractmethod
    def check(self) -> None:
        """Cheap checks, made before any device work.

        Raises:
          UserError: a file is missing.
        """

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Document]:
        """The documents.

        Raises:
          UserError: a file cannot be read, or does not hold what it should.
        """

    def describe(self) -> Mapping[str, str]:
        """What a reader must know to get the same documents elsewhere."""
        return {}


@dataclasses.dataclass(frozen=True)
class TextFiles(Documents):
    """One document a file, UTF-8.

    files: paths, directories (every file below that is not hidden) and globs, in which
           `**` stands for any number of directories.
    """

    files: Sequence[str]

    def check(self) -> None:
        resolve(self.files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in resolve(self.files):
            yield Document(name=name, text=read_text(path))


@dataclasses.dataclass(frozen=True)
class JsonLines(Documents):
    """One document a line: the string under `field` of the JSON object on it.

    Blank lines are passed over.
    """

    files: Sequence[str]
    field: str = "text"

    def check(self) -> None:
        resolve(self.files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in resolve(self.files):
            with path.open("rb") as lines:
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
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise UserError(f"{place}: expected a JSON object, got {kind}")
    if field not in record:
        raise UserError(f"{place}: no field {field!r}{nearest(field, record)}")
    text = record[field]
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UserError(f"{place}: field {field!r} must be a string, got {kind}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: field {field!r} holds half a surrogate pair"
        ) from error
    return text


class Digest:
    """blake2b over the names and contents of documents, and their count and bytes."""

    def __init__(self) -> None:
        """Of no documents yet."""
        self._hash = hashlib.blake2b(b"retort documents 1", digest_size=16)
        self.documents = 0
        self.bytes = 0

    def update(self, document: Document) -> None:
        """Add the next document; its lengths too, so that texts cannot run together."""
        name, text = document.name.encode(), document.text.encode()
        self._hash.update(f"{len(name)} {len(text)} ".encode() + name)
        self._hash.update(text)
        self.documents += 1
        self.bytes += len(text)

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()


def digest(documents: Iterable[Document]) -> Digest:
    """The digest of all of them, without keeping more than one in memory."""
    result = Digest()
    for document in documents:
        result.update(document)
    return result
