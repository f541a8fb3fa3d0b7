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
    runs = [p.parent.name for p in path.parent.glob("*/checkpoints")]
    near = nearest(path.name, runs)
    raise UserError(f"workdir: no such directory: {workdir}{near}")
