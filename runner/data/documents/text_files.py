"""Text files as documents."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.data import file_forms
from runner.data.documents.compressed import open_bytes
from runner.data.documents.document import Document, Documents
from runner.data.paths import resolve
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class TextFiles(Documents):
    """UTF-8 files, one document each; also compressed by gzip, zstd, bzip2 or xz.

    Attributes:
      files: Paths, directories (all files below that are not hidden) and globs, in
        which `**` stands for any number of directories.
    """

    files: Sequence[str]

    def check(self) -> None:
        resolve(self.files)

    def __iter__(self) -> Iterator[Document]:
        for name, path in resolve(self.files):
            yield Document(name=name, text=_read_text(path))


def _read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, line ends unchanged.

    Raises:
      UserError: It cannot be read, or is not UTF-8; with the byte that is wrong.
    """
    with open_bytes(path) as file:
        content = file.read()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if form := file_forms.describe(content):
            raise UserError(f"{path} is {form}") from error
        raise UserError(
            f"{path} is not UTF-8 text: byte {error.start} is "
            f"0x{content[error.start]:02x}"
        ) from error
