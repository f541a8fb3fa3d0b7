"""Input files: paths, directories and globs resolved."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.errors import UserError, nearest


def resolve(files: Sequence[str]) -> list[tuple[str, Path]]:
    """Return (name, path) of each file meant by `files`, names sorted within each.

    A name is the path below the directory, or below the part of a glob before its first
    wildcard; it does not depend on where on the machine that is.

    Args:
      files: Paths, directories and globs. Hidden files are left out.

    Raises:
      UserError: A path is missing, a glob or a directory holds no file.
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
        root, candidates = path, path.rglob("*")
    elif glob.has_magic(file):
        parts = path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = Path(*parts[:fixed])
        candidates = map(Path, glob.iglob(str(path), recursive=True))
    else:
        raise UserError(f"no such file: {file}{_sibling(path)}")
    # Named below the fixed part of the path, so that a moved folder is the same data.
    named = sorted(
        (p.relative_to(root).as_posix(), p) for p in candidates if p.is_file()
    )
    visible = [(n, p) for n, p in named if not any(s[0] == "." for s in n.split("/"))]
    if not visible:
        kind = "directory holds" if path.is_dir() else "glob matches"
        raise UserError(f"this {kind} no file: {file}")
    return visible


def _sibling(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" ({parent} is not a directory)"
    return nearest(path.name, [entry.name for entry in parent.iterdir()])
