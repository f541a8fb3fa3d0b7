"""Where documents come from: text files and JSON lines."""

import abc
import dataclasses
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from runner.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Document:
    """One text; `name` is the same on every machine."""

    name: str
    text: str


class Documents(abc.ABC):
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


def resolve(files: Sequence[str]) -> list[tuple[str, Path]]:
    """(name, path) of every file meant by `files`, in order, names sorted within each.

    A name is the path below the directory, or below the part of a glob before its first
    wildcard; it does not say where on the machine that is.

    Raises:
        UserError: a path is missing, a glob or a directory holds no file.
    """
    if isinstance(files, str):
        raise UserError(f"files must be a list of paths, got the string {files!r}")
    if not files:
        raise UserError("files must name at least one path, got an empty list")
    return [named for file in files for named in _resolve_one(os.fspath(file))]


def _resolve_one(file: str) -> Iterable[tuple[str, Path]]:
    path = Path(file).expanduser()
    if path.is_file():
        return [(path.name, path)]
    if path.is_dir():
        root, found = path, path.rglob("*")
    elif glob.has_magic(file):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        found = map(Path, glob.iglob(str(path), recursive=True))
    else:
        raise UserError(f"no such file: {file}{_sibling(path)}")
    named = sorted((p.relative_to(root).as_posix(), p) for p in found if p.is_file())
    shown = [(n, p) for n, p in named if not any(s[0] == "." for s in n.split("/"))]
    if not shown:
        what = "directory holds" if path.is_dir() else "glob matches"
        raise UserError(f"this {what} no file: {file}")
    return shown


def _sibling(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" ({parent} is not a directory)"
    return nearest(path.name, [entry.name for entry in parent.iterdir()])


def read_text(path: Path) -> str:
    """The file as UTF-8, line ends as they are.

    Raises:
        UserError: it cannot be read or is not UTF-8; with the byte that is wrong.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text: byte {error.start} is "
            f"0x{error.object[error.start]:02x}"
        ) from error


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
