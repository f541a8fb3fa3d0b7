"""Text files as documents."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import IO

from runner.data import file_forms
from runner.data.documents.compressed import open_bytes
from runner.data.documents.document import Document, Documents
from runner.data.paths import resolve
from runner.errors import UserError

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class TextFiles(Documents):
    r"""UTF-8 files, one document each; also compressed by gzip, zstd, bzip2 or xz.

    A document is held in memory, and some hundred bytes a token while it is encoded: a
    large file is many documents, by its `separator`.

    Attributes:
      files: Paths, directories (all files below that are not hidden) and globs, in
        which `**` stands for any number of directories.
      separator: What ends a document within a file, such as `"<|endoftext|>"` or an
        empty line, `"\n\n"`; "" where a file is one. It is part of none of them, and
        documents of white space alone are left out.
    """

    files: Sequence[str]
    separator: str = ""

    def check(self) -> None:
        resolve(self.files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in resolve(self.files):
            with open_bytes(path) as file:
                if not self.separator:
                    yield Document(name, _text(file.read(), str(path)))
                    continue
                pieces = _pieces(file, self.separator.encode())
                for number, piece in enumerate(pieces, start=1):
                    if piece.strip():
                        text = _text(piece, f"{path}, document {number}")
                        yield Document(f"{name}:{number}", text)


def _pieces(file: IO[bytes], separator: bytes) -> Iterator[bytes]:
    """Yield the parts of a file between separators, with little of it in memory."""
    rest = bytearray()
    while chunk := file.read(_CHUNK):
        start = max(len(rest) - len(separator) + 1, 0)
        rest += chunk
        # What was searched before is not searched again, however long a part is.
        begin = 0
        while (end := rest.find(separator, max(start, begin))) >= 0:
            yield bytes(rest[begin:end])
            begin = end + len(separator)
        del rest[:begin]
    yield bytes(rest)


def _text(content: bytes, place: str) -> str:
    """Return the text of UTF-8, line ends unchanged.

    Raises:
      UserError: It is not UTF-8; with the byte that is wrong.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if form := file_forms.describe(content):
            raise UserError(f"{place} is {form}") from error
        raise UserError(
            f"{place} is not UTF-8 text: byte {error.start} is "
            f"0x{content[error.start]:02x}; of a folder name the texts alone, such as "
            "files=['FOLDER/**/*.txt']"
        ) from error
