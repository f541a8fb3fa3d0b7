"""Documents: texts with names, in a fixed order, and the hash of them all."""

import abc
import contextlib
import contextvars
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping

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


_hashed: contextvars.ContextVar[list[tuple[Documents, Digest]] | None]
_hashed = contextvars.ContextVar("_hashed", default=None)


@contextlib.contextmanager
def hashed_once() -> Iterator[None]:
    """Hash equal documents once until its end.

    While an experiment is prepared, a tokenizer, the data that it is trained on and
    each evaluation ask for the same ones.
    """
    token = _hashed.set([])
    try:
        yield
    finally:
        _hashed.reset(token)


def digest(documents: Iterable[Document]) -> Digest:
    """Return the digest of some documents, with one at a time in memory."""
    before = _hashed.get()
    if before is None or not isinstance(documents, Documents):
        return _digest(documents)
    for others, hashed in before:
        if others == documents:
            return hashed
    before.append((documents, _digest(documents)))
    return before[-1][1]


def _digest(documents: Iterable[Document]) -> Digest:
    hashed = Digest()
    for document in documents:
        hashed.update(document)
    return hashed
