"""A directory that is there whole, or not at all, whenever the program is killed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner import atomic_files
from runner.errors import UserError


@contextlib.contextmanager
def written(to: Path) -> Iterator[Path]:
    """Yield an empty directory beside `to`; sync and rename it at the end.

    After a kill it is still there, under a name that begins with `.tmp-`.

    Raises:
      UserError: it cannot be written, or `to` came into being meanwhile.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{atomic_files.TEMPORARY}{to.name}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=to.parent))
    except OSError as error:
        raise UserError(f"{to} cannot be written: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o777 & ~atomic_files.umask())
        for file in folder.iterdir():
            atomic_files.sync(file)
        atomic_files.sync(folder)
        if to.exists():
            raise UserError(f"{to} was made by another program meanwhile")
        os.rename(folder, to)
    except OSError as error:
        raise UserError(f"{to} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    atomic_files.sync(to.parent)
