"""Confinement to a directory: names in files stay below it, and so does writing.

A directory may come from a stranger, and a name in its files may be `../x` or `/x`; a
link in it may lead anywhere. A directory that the command line names may be a link.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runner.errors import UserError

_DEPTH = 2  # levels at which a run makes files: `events/FILE`, `units/NAME`
_ALWAYS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not block


def inside(directory: Path, name: object) -> Path:
    """Return the path of `name`, which stands in a file, below `directory`.

    Raises:
      ValueError: It is no relative path, or may lead out of the directory.
    """
    if not isinstance(name, str):
        raise ValueError(f"expected the name of a file, got {name!r}")
    path = PurePosixPath(name)
    is_below = path.parts and not path.is_absolute() and ".." not in path.parts
    longest = max(len(part.encode(errors="replace")) for part in (path.parts or "x"))
    if not is_below or longest > 255 or "\0" in name:
        raise ValueError(f"{name!r} names nothing inside of {directory}")
    return directory / path


def refuse_links(directory: Path) -> None:
    """Refuse to write into a directory with a link that leads out of it.

    Raises:
      UserError: Naming the link, and where it leads.
    """
    home = Path(os.path.realpath(directory))
    for path in _links(directory, _DEPTH):
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(home):
            raise UserError(
                f"{path} is a link to {target}, and nothing outside of {directory} is "
                "written: move that here, or name a directory there"
            )


def open_to_append(path: Path) -> BinaryIO:
    """Open an ordinary file, made if absent, so that each write is one at its end.

    Raises:
      OSError: It is a link or no ordinary file, or cannot be written.
    """
    descriptor = descriptor_of(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return open(descriptor, "ab", buffering=0)


def append_whole(file: BinaryIO, content: bytes) -> None:
    """Add bytes to a file that is open unbuffered: all of them, or none.

    Raises:
      OSError: They could not be written; the file is as it was.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def open_anew(path: Path) -> BinaryIO:
    """Open an ordinary file, made if absent, and empty it.

    Raises:
      OSError: As `open_to_append`.
    """
    descriptor = descriptor_of(path, os.O_WRONLY | os.O_CREAT)
    os.ftruncate(descriptor, 0)
    return open(descriptor, "wb", buffering=0)


def descriptor_of(path: Path, flags: int) -> int:
    """Return a descriptor of an ordinary file: no link is followed, no pipe waited for.

    Raises:
      OSError: It is a link or no ordinary file, or `os.open` refuses.
    """
    try:
        descriptor = os.open(path, flags | _ALWAYS, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a link", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return descriptor


def _links(directory: Path, depth: int) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif depth > 1 and entry.is_dir(follow_symlinks=False):
                yield from _links(Path(entry.path), depth - 1)
