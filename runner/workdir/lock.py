"""One work directory, one run: a lock that a dead owner does not hold."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from runner.errors import UserError
from runner.files import confined

_HELD: set[int] = set()


class InUse(UserError):
    """Another process holds the lock."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block.

    The kernel releases it when the process ends, however it ends. The file stays: to
    delete it would let two runs lock two files of one name. Its content is for messages
    only.

    Raises:
      InUse: another process holds it; with its pid, host and start.
      UserError: the file cannot be made or locked, or is a link.
    """
    try:
        descriptor = confined.descriptor_of(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        _acquire(descriptor, path)
        _HELD.add(descriptor)
        try:
            _describe_owner(descriptor)
            yield
        finally:
            _HELD.discard(descriptor)
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise UserError(f"cannot lock {path}: {error.strerror}") from error
        raise InUse(
            f"{path.parent} is in use by {_owner(path)}\n"
            "Wait for that run or stop it, or give this one another --workdir."
        ) from None


def _describe_owner(descriptor: int) -> None:
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "a run that is just starting or ending"


def _let_go_in_child() -> None:
    # A forked data worker that outlives the run must not keep its lock.
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
