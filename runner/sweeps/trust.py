"""Consent to what a sweep's directory would do beyond itself.

A directory that is handed on may hold Python, and settings that reach out of it. To
name the directory on the command line is not to ask for that: `--trust` is.
"""

from collections.abc import Iterator
from pathlib import Path

from runner.cli.flags import Command
from runner.errors import UserError
from runner.files import confined
from runner.graph import source
from runner.sweeps.frozen import RUNTIME, Frozen

_DIRECTORIES = ("compilation.cache", "input.cache")
_OTHERS = ("loop.wandb_project", "distributed.coordinator")


def require(sweep: Frozen, command: Command) -> None:
    """Refuse a frozen sweep that would do more than the command line says.

    Python whose file the command line names too is run if both hold the same, and
    settings that it replaces are not looked at.

    Raises:
      UserError: with all that `--trust` would allow; or the directory holds a link that
        leads out of it.
    """
    confined.refuse_links(sweep.path)
    if command.trust:
        return
    named = {source.split(flag.value)[0] for flag in command.overrides}
    if sweep.source and command.config and _same(sweep.source, command.config):
        named.add(str(sweep.source))
    deeds = [f"run {file}" for file in _python(sweep) if file not in named]
    if not command.runtime:
        deeds += _reaches(sweep)
    if deeds:
        raise UserError(
            f"{sweep.path} was frozen before; to go on with it would {deeds[0]}"
            f"{f' (and {len(deeds) - 1} more)' if deeds[1:] else ''}\n"
            "where you trust those who made it, add --trust"
        )


def flags(sweep: Frozen) -> str:
    """Return the flags that go on with a sweep."""
    trusted = any((*_python(sweep), *_reaches(sweep)))
    return f"--workdir={sweep.path}" + " --trust" * trusted


def _python(sweep: Frozen) -> Iterator[str]:
    """Yield the Python files that units run: the sweep's own, and of fiddlers."""
    if sweep.source is not None:
        yield str(sweep.source)
    for flag in {flag for unit in sweep.units for flag in unit.graph}:
        name, _, value = flag.partition("=")
        file, call = source.split(value)
        if name == "--fiddler" and call:
            yield file


def _reaches(sweep: Frozen) -> Iterator[str]:
    """Name the settings of `runtime.gin` that concern more than the directory."""
    file, home = sweep.path / RUNTIME, sweep.path.resolve()
    if not file.exists():
        return
    from runner.cli import gin_flags  # imports gin

    for _, name, value in gin_flags.read_file(str(file)):
        outside = name in _DIRECTORIES and not _is_below(str(value), home)
        if value and (outside or name in _OTHERS):
            yield f"set {name} to {value}"


def _is_below(directory: str, home: Path) -> bool:
    return Path(directory).expanduser().resolve().is_relative_to(home)


def _same(copy: Path, config: str) -> bool:
    try:
        return copy.read_bytes() == Path(source.split(config)[0]).read_bytes()
    except OSError:
        return False
