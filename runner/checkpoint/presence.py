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
    near = nearest_run(path, "checkpoints")
    raise UserError(f"workdir: no such directory: {workdir}{near}")


def nearest_run(absent: Path, *marks: str) -> str:
    """Return `; did you mean 'teacher'?` of the runs beside a path that is not there.

    Args:
      absent: The path.
      marks: Names of files or folders, of which each makes a directory a run.
    """
    beside = absent.parent
    runs = {path.parent.name for mark in marks for path in beside.glob(f"*/{mark}")}
    return nearest(absent.name, runs)
