"""The Python standard library as documents: a corpus that needs no download."""

import dataclasses
import hashlib
import importlib
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.data.documents.document import Document, Documents
from runner.errors import UserError, nearest

_HELD_OUT_SHARE = 20 / 256
_TOPICS = "pydoc_data/topics.py"
_SKIPPED = {"test", "tests", "idle_test", "__pycache__", "site-packages"}
_TABLES = {"encodings", "html/entities.py", "_sysconfigdata"}  # generated, not text
_SPLITS = ("train", "held_out", "all")


@dataclasses.dataclass(frozen=True)
class PythonLibrary(Documents):
    """Documentation and source of the Python standard library, 10 MB.

    One document per `*.py` file, tests and generated tables left out, and one per topic
    of the language reference (`pydoc_data.topics`). A hash of its path below the
    library decides whether a file is held out, with all documents made from it: about
    8 %, the same files in every run, and in every interpreter that has them.

    The library differs between interpreters: compare fingerprints before losses.

    Attributes:
      split: "train", "held_out" or "all".

    Raises:
      UserError: There is no such split.
    """

    split: str = "train"

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise UserError(
                f"split must be one of {', '.join(_SPLITS)}, got {self.split!r}"
                f"{nearest(self.split, _SPLITS)}"
            )

    def check(self) -> None:
        root = _root()
        if not root.is_dir():
            raise UserError(
                f"this Python keeps no standard library source in {root}\n"
                "train on your own text: runner.data.TextFiles(files=[...])"
            )

    def __iter__(self) -> Iterator[Document]:
        self.check()
        root = _root()
        for path in _source_files(root):
            if self._includes(path):
                text = _read(root / path)
                if text:
                    yield Document(name=path, text=text)
        if self._includes(_TOPICS):
            yield from _topics()

    def describe(self) -> Mapping[str, str]:
        return {"python": platform.python_version(), "split": self.split}

    def _includes(self, path: str) -> bool:
        return self.split == "all" or held_out(path) == (self.split == "held_out")


def held_out(path: str) -> bool:
    """Return whether the file at this path below the library is held out."""
    hashed = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big") < _HELD_OUT_SHARE * 2**64


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _source_files(root: Path) -> Iterator[str]:
    """Return the paths below `root` of the library's own modules, sorted."""
    sources = []
    for folder, folders, files in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = [
            name for name in folders if _is_library((below / name).as_posix())
        ]
        paths = [(below / name).as_posix() for name in files if name.endswith(".py")]
        sources += [path for path in paths if _is_library(path) and path != _TOPICS]
    return iter(sorted(sources))


def _is_library(path: str) -> bool:
    """Return whether a file or folder is of the library, and no test or table."""
    parts = path.removesuffix(".py").split("/")
    if parts[0] not in sys.stdlib_module_names or _SKIPPED.intersection(parts):
        return False
    return not any(path.startswith(table) for table in _TABLES)


def _read(path: Path) -> str:
    """Return the text of a library file; "" when it is not readable as UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _topics() -> Iterator[Document]:
    """Yield the topics of the language reference that no longer one contains."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        return
    longest_first = sorted(topics.items(), key=lambda item: (-len(item[1]), item[0]))
    distinct: dict[str, str] = {}
    for name, text in longest_first:
        body = text.strip().split("\n", 2)[-1].strip()  # below its title and underline
        if body and not any(body in longer for longer in distinct.values()):
            distinct[name] = text
    for name in sorted(distinct):
        yield Document(name=f"pydoc_data/topics/{name}", text=distinct[name])
