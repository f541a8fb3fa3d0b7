"""Compiled programs of earlier starts, in the user's cache folder.

JAX writes them and reads them, under a lock, and removes the least recently used. Its
keys hold the program, the versions of jax and XLA, the flags and the devices; the
folder is that of one kind of processor, since home directories are shared by several.
"""

import hashlib
import platform
from pathlib import Path

import filelock
import jax

from runner import runtime
from runner.data import cache
from runner.errors import UserError

_PROGRAM, _LAST_USE = "-cache", "-atime"  # how JAX ends the names of its files
_LOCK_SECONDS = 10


def keep(config: runtime.Compilation) -> None:
    """Have JAX keep its compiled programs, if it does not keep them already.

    A folder that JAX was told of (`JAX_COMPILATION_CACHE_DIR`) stands, unless `config`
    names another.

    Raises:
      UserError: The folder that `config` names cannot be written.
    """
    if not config.cache_bytes:
        return
    if not config.cache and jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = cache.directory(config.cache)
    folder = (folder if config.cache else folder / "compiled") / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_halves(folder)
    except OSError as error:
        if not config.cache:
            return  # a home that cannot be written costs time alone
        raise UserError(
            f"cannot write compiled programs to {folder}: {error.strerror or error}\n"
            "name a directory that can be written: --gin.compilation.cache=DIR"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", config.cache_bytes)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _remove_halves(folder: Path) -> None:
    """Remove programs whose writer was killed: JAX would never write them again.

    Raises:
      OSError: The folder cannot be written.
    """
    # JAX's own lock: who holds it writes the time of the last use after the program.
    with filelock.FileLock(folder / ".lockfile", timeout=_LOCK_SECONDS):
        for program in folder.glob(f"*{_PROGRAM}"):
            key = program.name.removesuffix(_PROGRAM)
            if not (folder / f"{key}{_LAST_USE}").exists():
                program.unlink(missing_ok=True)


def _processor() -> str:
    """Return a name of this kind of processor, for the instructions that it knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    named = ("flags", "Features", "model name")
    known = sorted({line for line in lines if line.startswith(named)}) or lines
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
    return f"{platform.machine() or 'processor'}-{digest[:8]}"
