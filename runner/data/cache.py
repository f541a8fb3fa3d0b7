"""Files made once and used by every later run: trained tokenizers, token arrays.

A cached file is its payload followed by the sha256 of the payload (32 bytes), so that
one rename publishes both and no reader sees a half-written or a damaged one.
"""

import hashlib
import mmap
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from runner import atomic_files
from runner.errors import UserError

_DIGEST = hashlib.sha256().digest_size
_ABANDONED = 24 * 3600  # seconds after which a temporary file has no living writer


def directory(path: str = "") -> Path:
    """`path`, else `$XDG_CACHE_HOME/retort`, else `~/.cache/retort`."""
    if path:
        return Path(path).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "retort"


def fetch(path: Path, make: Callable[[], Iterable[bytes | memoryview]]) -> memoryview:
    """The payload of the file `path`, memory mapped; made first when not there.

    A file whose payload does not have its sha256 is made again. Processes that find
    the file missing at the same time all make it, and the last rename wins: `make` must
    be deterministic.

    Raises:
      UserError: the file cannot be written.
    """
    payload = _read(path)
    if payload is None:
        try:
            _write(path, make())
        except OSError as error:
            raise UserError(
                f"cannot write the cache file {path}: {error.strerror}\n"
                "name a directory that can be written: --gin.input.cache=DIR"
            ) from error
        payload = _read(path)
    if payload is None:
        raise UserError(f"the cache file {path} was damaged as soon as it was written")
    return payload


def _read(path: Path) -> memoryview | None:
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # missing, unreadable; empty
        return None
    payload, digest = data[:-_DIGEST], data[-_DIGEST:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            sha256 = hashlib.sha256()
            for chunk in chunks:
                sha256.update(chunk)
                file.write(chunk)
            file.write(sha256.digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    atomic_files.sync(path.parent)


def _sweep(folder: Path) -> None:
    """Remove what writers killed long ago left behind."""
    for file in folder.glob("*.tmp"):
        try:
            if time.time() - file.stat().st_mtime > _ABANDONED:
                file.unlink()
        except OSError:
            continue
