"""The manifest of a checkpoint: written last, it lists every file.

The array files carry no checksum that is read on restore, a wrong dtype casts without a
word, and a directory may exist before its bytes do. So the manifest holds the size and
sha256 of every file and the shape and dtype of every leaf; it is written once the files
are synced, and checked before anything is read. It carries a digest of itself too.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import atomic_files
from runner.files import confined, form

NAME = "manifest.json"
FORMAT = 1


class CorruptCheckpoint(Exception):
    """A directory that does not count as a checkpoint; the message has the reason."""


class UnsealedCheckpoint(CorruptCheckpoint):
    """A directory without a manifest: a kill came before the save was done."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Shape and dtype of one array."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class File:
    """Size in bytes and content digest of one file."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Sealed:
    """Content of a manifest's file: a manifest, and the digest of its JSON."""

    manifest: dict[str, Any]
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One checkpoint.

    Attributes:
      step: Of the run.
      leaves: By path in the tree.
      files: By path in the directory.
      memories: JSON by name, of what goes on from the checkpoint beside the tree.
      format: Of the manifest.
    """

    step: int
    leaves: Mapping[str, Leaf]
    files: Mapping[str, File]
    memories: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    format: int = FORMAT


def seal(
    directory: Path,
    *,
    step: int,
    leaves: Mapping[str, Leaf],
    memories: Mapping[str, Any] | None = None,
) -> Manifest:
    """Sync and digest every file under `directory`, then write its manifest.

    Raises:
      OSError: A file could not be read or synced, or the manifest not written.
    """
    files = {}
    for path in sorted(directory.rglob("*")):
        atomic_files.sync(path)
        if path.is_file():
            files[path.relative_to(directory).as_posix()] = _digest(path)
    atomic_files.sync(directory)
    atomic_files.sync(directory.parent)
    manifest = Manifest(
        step=step, leaves=dict(leaves), files=files, memories=dict(memories or {})
    )
    content = dataclasses.asdict(manifest)
    text = json.dumps({"manifest": content, "sha256": _digest_of(content)}, indent=1)
    atomic_files.write_atomic(directory / NAME, text + "\n")
    return manifest


def read(directory: Path, *, step: int) -> Manifest:
    """Return the manifest of a directory, itself checked; the files are not.

    Raises:
      CorruptCheckpoint: It is absent, altered, malformed, of another format or of
        another step, or it names a file outside of the directory.
    """
    try:
        sealed = form.read(Sealed, directory / NAME)
        # Its own digest and format; then its form, step and names.
        if _digest_of(sealed.manifest) != sealed.sha256:
            raise form.Malformed("its own digest does not agree")
        version = sealed.manifest.get("format")
        if version != FORMAT:
            raise CorruptCheckpoint(
                f"{NAME} has format {version}, this program reads {FORMAT}"
            )
        manifest = form.parse(Manifest, sealed.manifest)
        for name in manifest.files:
            confined.inside(directory, name)
    except FileNotFoundError:
        raise UnsealedCheckpoint(f"no {NAME}: the save was cut short") from None
    except OSError as error:
        raise CorruptCheckpoint(f"{NAME} cannot be read: {error}") from error
    except ValueError as error:
        raise CorruptCheckpoint(f"{NAME} is damaged: {error}") from error
    if manifest.step != step:
        raise CorruptCheckpoint(f"{NAME} is that of step {manifest.step}")
    return manifest


def check(directory: Path, *, step: int) -> Manifest:
    """Return the manifest of a directory whose every file is as it was sealed.

    Raises:
      CorruptCheckpoint: Naming the first file that is missing, cut short or altered, or
        that is a link to one elsewhere.
    """
    manifest = read(directory, step=step)
    home = os.path.realpath(directory)
    for name, file in manifest.files.items():
        path = directory / name
        if not Path(os.path.realpath(path)).is_relative_to(home):
            raise CorruptCheckpoint(
                f"{name} is a link to a file outside of {directory}"
            )
        try:
            size = path.stat().st_size
            if size != file.size:
                raise CorruptCheckpoint(
                    f"{name} has {size} bytes, {file.size} were saved"
                )
            if _digest(path) != file:
                raise CorruptCheckpoint(f"{name} is altered: its sha256 does not agree")
        except FileNotFoundError:
            raise CorruptCheckpoint(f"{name} is missing") from None
        except OSError as error:
            raise CorruptCheckpoint(f"{name} cannot be read: {error}") from error
    return manifest


def _digest(path: Path) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return File(size=file.tell(), sha256=digest)


def _digest_of(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
