"""The corpus that needs no download: the Python standard library running us."""

import dataclasses
import hashlib
import importlib
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.data.text.documents import Document, Documents
from runner.errors import UserError, nearest

_HELD_OUT = 20 / 256
_TOPICS = "pydoc_data/topics.py"
_SKIPPED = {"test", "tests", "idle_test", "__pycache__", "site-packages"}
_TABLES = {"encodings", "html/entities.py", "_sysconfigdata"}  # machine-made, not text
_SPLITS = ("train", "held_out", "all")


@dataclasses.dataclass(frozen=True)
class PythonLibrary(Documents):
    """Documentation and source of the Python standard library, 10 MB.

    One document a `*.py` file, tests and machine-made tables left out, and one a topic
    of the language reference (`pydoc_data.topics`). A file is held out, with all that
    came from it, when a hash of its path below the library says so: about 8 %, the same
    files in every run, and in every interpreter that has them.

    split: "train", "held_out" or "all".

    It differs between interpreters: compare fingerprints before comparing losses.
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
        for path in _source_files(_root()):
            if self._has(path):
                text = _read(_root() / path)
                if text:
                    yield Document(name=path, text=text)
        if self._has(_TOPICS):
            yield from _topics()

    def describe(self) -> Mapping[str, str]:
        return {"python": platform.python_version(), "split": self.split}

    def _has(self, path: str) -> bool:
        return self.split == "all" or held_out(path) == (self.split == "held_out")


def held_out(path: str) -> bool:
    """Whether the file at this path below the library is kept from training."""
    hashed = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big") < _HELD_OUT * 2**64


def _root() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _source_files(root: Path) -> Iterator[str]:
    """Paths below `root` of the library's own modules, sorted."""
    found = []
    for folder, folders, files in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if _wanted((below / name).as_posix())]
        paths = [(below / name).as_posix() for name in files if name.endswith(".py")]
        found += [path for path in paths if _wanted(path) and path != _TOPICS]
    return iter(sorted(found))


def _wanted(path: str) -> bool:
    parts = path.removesuffix(".py").split("/")
    if parts[0] not in sys.stdlib_module_names or _SKIPPED.intersection(parts):
        return False
    return not any(path.startswith(table) for table in _TABLES)


def _read(path: Path) -> str:
    """The text of a library file; nothing when it cannot be had as UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _topics() -> Iterator[Document]:
    """Topics of the language reference, less those that a longer one contains."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        return
    longest_first = sorted(topics.items(), key=lambda item: (-len(item[1]), item[0]))
    kept: dict[str, str] = {}
    for name, text in longest_first:
        body = text.strip().split("\n", 2)[-1].strip()  # below its title and underline
        if body and not any(body in longer for longer in kept.values()):
            kept[name] = text
    for name in sorted(kept):
        yield Document(name=f"pydoc_data/topics/{name}", text=kept[name])
