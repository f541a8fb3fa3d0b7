"""Cached files, written once and read by later runs: tokenizers, token arrays.

A cached file is its payload followed by the sha256 of the payload (32 bytes), so that
one rename publishes both and no reader sees a half-written or a damaged file.
"""

import contextlib
import hashlib
import mmap
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import filelock

from runner import atomic_files
from runner.data import mapped
from runner.errors import UserError
from runner.files import remote

_DIGEST_BYTES = hashlib.sha256().digest_size
# By pattern: the age in seconds from which it has no living writer, and its removal.
_STALE: dict[str, tuple[float, Callable[[Path], None]]] = {
    "*.tmp": (24 * 3600, Path.unlink),
    "*.parts": (30 * 24 * 3600, shutil.rmtree),
}
_PATIENCE = 2.0  # seconds until a line says what is waited for


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
    payload = read(path)
    if payload is None:
        with _writable(path):
            _write(path, make())
        payload = read(path)
    if payload is None:
        raise UserError(f"the cache file {path} was damaged as soon as it was written")
    return payload


def read(path: Path) -> memoryview | None:
    """Return the payload of a file, memory mapped; None if absent or damaged."""
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # missing, unreadable; empty
        return None
    payload, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    sha256 = hashlib.sha256()
    for window in mapped.windows(payload):
        sha256.update(window)
    return payload if sha256.digest() == digest else None


@contextlib.contextmanager
def locked(path: Path, *, doing: str) -> Iterator[None]:
    """Hold the file `path`, which another process waits for; the system frees it.

    Args:
      path: Of the lock; its folder is made.
      doing: What the other process does, for the line that says that this one waits.

    Raises:
      UserError: The file cannot be written.
    """
    lock = filelock.FileLock(path)
    with _writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE)
        except filelock.Timeout:
            print(f"waiting for another process, {doing}", file=sys.stderr, flush=True)
            lock.acquire()
        except NotImplementedError:  # a file system without locks: all of them work
            pass
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the cache file {path}: {error.strerror}\n"
            "name a directory that can be written: --gin.input.cache=DIR"
        ) from error


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
    """Remove what writers left that were killed long ago: temporary files, parts."""
    for pattern, (seconds, remove) in _STALE.items():
        for path in folder.glob(pattern):
            try:
                if time.time() - path.stat().st_mtime > seconds:
                    remove(path)
            except OSError:
                continue
