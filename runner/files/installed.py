"""Configs that come with the software, whether it is a clone or an installed wheel."""

from pathlib import Path

from runner.errors import UserError, nearest

PREFIX = "retort:"
_CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def find(name: str) -> Path:
    """Return the path of a file below `configs`, such as `moe.py`, `runtime/cpu.gin`.

    Raises:
      UserError: There is none; with the nearest.
    """
    path = _CONFIGS / name
    folder, suffix = path.parent, path.suffix
    names = [file.stem for file in sorted(folder.glob(f"*{suffix}"))]
    if path.stem not in names or folder not in (_CONFIGS, _CONFIGS / "runtime"):
        raise UserError(
            f"{PREFIX}{path.stem}: no such file in {folder}{nearest(path.stem, names)}"
        )
    return path
