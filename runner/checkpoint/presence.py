"""The cheap check that a path is the work directory of a run that saved something."""

from pathlib import Path

from runner.errors import UserError, nearest


def require_checkpoints(workdir: str) -> None:
    """Refuse a directory that is not there, or holds no checkpoints; none is read.

    Raises:
      UserError: With the nearest run beside it.
    """
    path = Path(workdir).expanduser()
    if (path / "checkpoints").is_dir():
        return
    if path.exists():
        raise UserError(f"workdir: {workdir} has no checkpoints")
    near = nearest_run(path, holds="checkpoints")
    raise UserError(f"workdir: no such directory: {workdir}{near}")


def nearest_run(absent: Path, *, holds: str) -> str:
    """Return `; did you mean 'teacher'?` of the runs beside a path that is not there.

    Args:
      absent: The path.
      holds: The name of a file or folder that makes a directory a run.
    """
    runs = [path.parent.name for path in absent.parent.glob(f"*/{holds}")]
    return nearest(absent.name, runs)
