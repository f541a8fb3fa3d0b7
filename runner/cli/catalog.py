"""Contents of graphs, and the settings beside them: `--list` and `--describe`."""

import dataclasses
import importlib
import inspect
import types
from collections.abc import Sequence
from typing import Any

from runner.cli import reference
from runner.errors import UserError
from runner.graph import fitting
from runner.graph.names import public
from runner.graph.namespace import Namespace


@dataclasses.dataclass(frozen=True)
class Kind:
    """Classes and functions that go to one kind of place.

    Attributes:
      modules: that export them.
      bases: dotted names of the classes that the classes inherit from.
      returns: dotted name of the class of what the functions return; empty for none.
    """

    modules: Sequence[str]
    bases: Sequence[str] = ()
    returns: str = ""


KINDS = {
    "losses": Kind(["losses"], ["losses.Loss"]),
    # Any loss, on held-out data.
    "metrics": Kind(["losses", "runner"], ["losses.Loss"]),
    "weights": Kind(
        ["losses"], ["losses.Balance", "losses.Reweighting", "losses.TokenWeight"]
    ),
    "models": Kind(
        ["models", "models.students"],
        ["flax.nnx.Module"],
        returns="collections.abc.Callable",
    ),
    "teachers": Kind(["runner"], ["runner.teachers.Teacher"]),
    "starts": Kind(["runner.starts"], ["runner.starts.Start"]),
    "data": Kind(
        ["runner.data"],
        [
            "runner.data.DataSource",
            "runner.data.Documents",
            "runner.data.TokenizerSource",
        ],
    ),
    "optimizers": Kind(
        ["runner.optimizers", "runner.averages", "runner.step_rules"],
        ["runner.averages.Average", "runner.step_rules.StepRule"],
        returns="optax.GradientTransformation",
    ),
    "hooks": Kind(["runner"], ["runner.StepHook"]),
    "writers": Kind(["runner"], ["runner.RunWriter"]),
    "jobs": Kind(["runner"], ["runner.graph.job.Job"]),
}
GIN = "gin"


def show(kind: str, module: types.ModuleType | None) -> None:
    """Print a line for each of a kind; those of the config file `module` last."""
    if kind == GIN:
        rows = list(reference.settings())
    else:
        own = [] if module is None else [module]
        rows = [
            (public(value), reference.summary(value))
            for value in _values(KINDS[kind], own)
        ]
    for line in reference.columns(rows):
        print(line)


def explain(name: str, module: types.ModuleType | None) -> None:
    """Print the reference of a class, function or gin setting.

    Raises:
      UserError: there is no such name.
    """
    settings = {row[0].partition("=")[0]: row for row in reference.settings()}
    if setting := settings.get(name.removeprefix("gin.")):
        assigned, kind, text = setting
        return print(f"--gin.{assigned}\n\n{kind}: {text}")
    try:
        print(reference.text(Namespace(module).resolve(name)), end="")
    except UserError as error:
        raise UserError(f"--describe={name}: {error}") from None


def values(kind: str) -> list[Any]:
    """Return the classes and functions of a kind that the project exports."""
    return _values(KINDS[kind], [])


def _values(kind: Kind, own: Sequence[types.ModuleType]) -> list[Any]:
    bases = tuple(_imported(base) for base in kind.bases)
    values: dict[str, Any] = {}
    for module in (*map(importlib.import_module, kind.modules), *own):
        names = getattr(module, "__all__", vars(module))
        for name in sorted(names, key=str.lower):
            value = getattr(module, name)
            if _is_of(value, bases, kind, module) and not name.startswith("_"):
                values.setdefault(public(value), value)
    return list(values.values()) or list(bases)  # to inherit from, where there is none


def _is_of(
    value: Any, bases: tuple[type, ...], kind: Kind, module: types.ModuleType
) -> bool:
    if not isinstance(value, type):
        home = getattr(value, "__module__", "")
        is_own = home == module.__name__ or home.startswith(f"{module.__name__}.")
        result = fitting.result(getattr(value, "func", value))
        kinds = getattr(result, "__mro__", (result,))
        return bool(kind.returns) and is_own and _imported(kind.returns) in kinds
    return (
        issubclass(value, bases)
        and value not in bases
        and not inspect.isabstract(value)
    )


def _imported(name: str) -> Any:
    module, _, symbol = name.rpartition(".")
    return getattr(importlib.import_module(module), symbol)
