"""Kinds and names that `--list` and `--describe` refuse before anything is imported.

Names are read in the text of our packages: jax takes a second to import.
"""

import ast
import importlib
from pathlib import Path

from runner.errors import UserError, nearest

KINDS = (
    *("losses", "metrics", "weights", "models", "teachers", "starts", "data"),
    *("optimizers", "hooks", "writers", "jobs", "gin"),
)
_HOME = Path(__file__).parents[2]
_SHORT = ("losses", "models", "runner", "runner.data")
_PACKAGES = {"losses": "losses", "models": "models", "runner": "runner"}
_PACKAGES |= {"data": "runner.data", "optimizers": "runner.optimizers"}
_PACKAGES |= {"students": "models.students"}


def check_kind(kind: str) -> None:
    """Refuse what `--list` does not list.

    Raises:
      UserError: with the nearest kind.
    """
    if kind not in KINDS:
        raise UserError(f"--list={kind}: no such kind{nearest(kind, KINDS)}")


def check_name(name: str) -> None:
    """Refuse what `--describe` cannot know, where the text of our packages says so.

    For a command without a config file, and without packages of others.

    Raises:
      UserError: with the nearest name.
    """
    root, _, rest = name.removeprefix("gin.").partition(".")
    settings = _settings()
    if root in settings:
        path, names, first = root, settings[root], rest
    elif root in _PACKAGES:
        package = _PACKAGES[root]
        path, names, first = root, _exported(package), rest.partition(".")[0]
        if first not in names and _is_module(package, first):
            return
    else:
        path, names, first = "", _roots(), root
    if first not in names and (first or not path):
        known = f"{path} has no" if path else "no name"
        raise UserError(f"--describe={name}: {known} '{first}'{nearest(first, names)}")


def _roots() -> list[str]:
    """Return every name at which a dotted one may begin."""
    from runner.graph.namespace import MODULES

    exported = (name for package in _SHORT for name in _exported(package))
    return [*MODULES, *exported, *_settings()]


def _exported(package: str) -> list[str]:
    """Return the public names of a package: `__all__`, or what a module defines."""
    if package in ("runner", "runner.data"):  # whose names are imported at first use
        return list(importlib.import_module(package).__all__)
    path = _HOME.joinpath(*package.split("."))
    if path.is_dir():
        for node in _statements(path / "__init__.py"):
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"
            ):
                return list(ast.literal_eval(node.value))
    defined = _statements(path.with_suffix(".py"))
    names = [x.name for x in defined if isinstance(x, ast.FunctionDef | ast.ClassDef)]
    return [name for name in names if not name.startswith("_")]


def _settings() -> dict[str, list[str]]:
    """Return the names of the gin settings by their section."""
    settings = {}
    for node in _statements(_HOME / "runner" / "runtime.py"):
        if not isinstance(node, ast.ClassDef):
            continue
        fields = (x for x in node.body if isinstance(x, ast.AnnAssign))
        for decorator in node.decorator_list:
            match decorator:
                case ast.Call(func=ast.Name("_section"), args=[ast.Constant(section)]):
                    settings[section] = [ast.unparse(field.target) for field in fields]
    return settings


def _statements(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_text()).body


def _is_module(package: str, name: str) -> bool:
    path = _HOME.joinpath(*package.split("."), name)
    return path.is_dir() or path.with_suffix(".py").is_file()
