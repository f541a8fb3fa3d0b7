"""Names that the value of a flag may use: those that a saved graph may hold.

`losses.ZLoss`, `optax.adamw` and `runner.OnlineTeacher` as a config file writes them,
`LossTerm` and `data.TextFiles` in short, and what the config file defines or imports.
"""

import contextlib
import dataclasses
import functools
import importlib
import sys
import types
from pathlib import Path
from typing import Any

from runner.errors import UserError, nearest
from runner.files import trusted
from runner.graph.allow_list import AllowList
from runner.graph.names import FILE_PREFIX

MODULES = {
    "data": "runner.data",
    "flax": "flax",
    "functools": "functools",
    "jax": "jax",
    "losses": "losses",
    "models": "models",
    "optax": "optax",
    "optimizers": "runner.optimizers",
    "runner": "runner",
    "students": "models.students",
}
"""Modules by the name at which a dotted name begins."""

_SHORT = ("losses", "runner", "models", "runner.data")


@dataclasses.dataclass(frozen=True)
class Namespace:
    """The names that can be written.

    Attributes:
      module: the config file, whose own names come first; None for a saved graph.
    """

    module: types.ModuleType | None = None

    def knows(self, root: str) -> bool:
        """Return True if a dotted name may begin with `root`."""
        return self._begin(root) is not None

    def resolve(self, name: str) -> Any:
        """Return what a dotted name stands for.

        Raises:
          UserError: there is no such name (the nearest is named), or a graph may
            not hold it.
        """
        root, *rest = name.split(".")
        value = self._begin(root)
        if value is None:
            hint = self._not_imported(root) or nearest(root, self._roots())
            raise UserError(f"no name '{root}'{hint}")
        path = root
        for part in rest:
            value, path = _member(value, path, part), f"{path}.{part}"
        if isinstance(value, types.ModuleType):
            raise UserError(f"{name} is a module; name one of its functions or classes")
        if not AllowList().allows_value(value) and not _is_beside(value):
            raise UserError(
                f"'{name}' may not stand in a graph; expected losses, models, optax, "
                "jax.nn, public names of runner, what the config file defines, or "
                "packages named by --trust=PACKAGE"
            )
        return value

    def _begin(self, root: str) -> Any:
        if self.module is not None and not root.startswith("_"):
            value = vars(self.module).get(root)
            if isinstance(value, types.ModuleType) or callable(value):
                return value
        if root in MODULES or root in trusted.packages():
            return _package(MODULES.get(root, root))
        home = _short_names().get(root)
        return None if home is None else getattr(importlib.import_module(home), root)

    def _not_imported(self, root: str) -> str:
        """Return a hint where a file of that name stands beside the config file."""
        config = getattr(self.module, "__file__", None)
        if config is None or not Path(config).with_name(f"{root}.py").is_file():
            return ""
        return f"; {root}.py is there: write 'import {root}' in {Path(config).name}"

    def _roots(self) -> list[str]:
        own = [] if self.module is None else _members(self.module)
        return [*own, *MODULES, *trusted.packages(), *_short_names()]


def _is_beside(value: Any) -> bool:
    """Return True for what a module beside a config file of this process defines."""
    home = trusted.home(str(getattr(value, "__module__", "")))
    return home in {trusted.home(m) for m in sys.modules if m.startswith(FILE_PREFIX)}


def _package(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} cannot be imported: {error}") from None


@functools.cache
def _short_names() -> dict[str, str]:
    """Return the module of each name that may stand without it."""
    homes: dict[str, str] = {}
    for home in _SHORT:
        for name in _members(importlib.import_module(home)):
            homes.setdefault(name, home)
    return homes


def _member(value: Any, path: str, name: str) -> Any:
    names = _members(value)
    if name in names:
        return getattr(value, name)
    if isinstance(value, types.ModuleType) and not name.startswith("_"):
        module = f"{value.__name__}.{name}"
        if AllowList().allows_import(module, ""):
            with contextlib.suppress(ImportError):
                return importlib.import_module(module)
    raise UserError(f"{path} has no '{name}'{nearest(name, names)}")


def _members(value: Any) -> list[str]:
    """Return the public names of a module or class, less what a module imports."""
    exported = getattr(value, "__all__", None)
    if exported is not None:
        return list(exported)
    names = [name for name in dir(value) if not name.startswith("_")]
    if not isinstance(value, types.ModuleType) or value.__name__.startswith(
        FILE_PREFIX
    ):
        return names
    package = value.__name__.partition(".")[0]
    return [name for name in names if _home(getattr(value, name)) == package]


def _home(value: Any) -> str:
    """Return the package that a module, class or function is of."""
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0]
    return str(getattr(value, "__module__", "")).partition(".")[0]
