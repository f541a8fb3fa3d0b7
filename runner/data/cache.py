"""Cached files, written once and read by later runs: tokenizers, token arrays.

A cached file is its payload followed by the sha256 of the payload (32 bytes), so that
one rename publishes both and no reader sees a half-written or a damaged file.
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
from runner.files import remote

_DIGEST_BYTES = hashlib.sha256().digest_size
_STALE_SECONDS = 24 * 3600  # older temporary files have no living writer


def directory(path: str = "") -> Path:
    """Return `path`, else `$XDG_CACHE_HOME/retort`, else `~/.cache/retort`.

    Raises:
      UserError: The path is the address of an object store.
    """
    if path:
        remote.refuse("cache", path)
        return Path(path).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "retort"


def fetch(path: Path, make: Callable[[], Iterable[bytes | memoryview]]) -> memoryview:
    """Return the payload of the file `path`, memory mapped; write it first if absent.

    A file whose payload does not match its sha256 is written again. Processes that miss
    the file at the same time all write it, and the last rename wins.

    Args:
      path: The cached file.
      make: Called when the file is absent or damaged; yields the payload in pieces. It
        must be deterministic.

    Raises:
      UserError: The file cannot be written.
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
    payload, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    # The digest comes last, and the name after it: what has either is whole.
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


def _remove_stale(folder: Path) -> None:
    """Remove temporary files of writers that were killed long ago."""
    for file in folder.glob("*.tmp"):
        try:
            if time.time() - file.stat().st_mtime > _STALE_SECONDS:
                file.unlink()
        except OSError:
            continue
