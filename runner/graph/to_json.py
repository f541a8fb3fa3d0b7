"""Graphs in files: JSON that is read through an allow-list.

A work directory can be handed on, so its `config.json` is not trusted: it may name
losses, models, optax and jax.nn, the runner's own dataclasses and public functions,
and nothing else of Python. Whatever can be imported can be saved. It is found again by
the run's own record of what its command line imported (`runner.files.trusted`), by
`--trust=PACKAGE`, or by a command that names the file which imports it.
"""

import dataclasses
import functools
import importlib
import inspect
import json
import pathlib
import sys
from collections.abc import Collection, Iterator
from typing import Any

import fiddle as fdl
from fiddle import daglish
from fiddle.experimental import serialization

from runner.errors import UserError
from runner.files import form, trusted
from runner.graph import nodes, renames, source
from runner.graph.allow_list import AllowList, is_of_every_graph
from runner.graph.names import FILE_PREFIX, public

_FORMAT_KEY, _FORMAT = "retort_format", 1  # 1: `renames.DEFAULTS` are today's


def to_json(cfg: fdl.Buildable) -> str:
    """Return the graph as JSON.

    Raises:
      UserError: it holds something that JSON cannot, or that could not be read back.
    """
    _register_constants()
    plain = _nodes_only(cfg)
    for value, path in daglish.iterate(plain):
        _refuse_unsaved(value, daglish.path_str(path).removeprefix("."))
    try:
        content = json.loads(serialization.dump_json(plain, _Importable()))
        return json.dumps({**content, _FORMAT_KEY: _FORMAT}, indent=1) + "\n"
    except (
        serialization.UnserializableValueError,
        serialization.PyrefPolicyError,
    ) as error:
        raise UserError(f"the graph cannot be saved: {_first_line(error)}") from None


def from_json(text: str, origin: str, modules: Collection[str] = ()) -> fdl.Buildable:
    """Read a graph from JSON.

    Args:
      text: the JSON.
      origin: the file's name, for messages.
      modules: that it may name besides those of every graph.

    Raises:
      UserError: it is damaged, or names what it may not.
    """
    _register_constants()
    try:
        content = form.load(text)
        version = content.pop(_FORMAT_KEY, 0) if isinstance(content, dict) else 0
        content = renames.in_json(content)
        cfg = serialization.load_json(json.dumps(content), AllowList(modules))
    except form.Malformed as error:
        raise UserError(f"{origin}: not a saved graph, or damaged: {error}") from None
    except serialization.PyrefPolicyError as error:
        raise UserError(f"{origin}: {_refusal(error.module, error.symbol)}") from None
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(f"{origin}: {_first_line(error)}") from None
    except Exception:  # fiddle checks no form: an index, a key, an attribute, no end
        raise UserError(f"{origin}: not a saved graph, or damaged") from None
    if not isinstance(cfg, fdl.Buildable):
        raise UserError(f"{origin}: expected a graph, found {type(cfg).__name__}")
    if version < _FORMAT:
        renames.set_old_defaults(cfg)
    return cfg


def load(path: str) -> fdl.Buildable:
    """Read a saved graph from the file `path`.

    Raises:
      UserError: see `from_json`; or there is no such file.
    """
    try:
        text = form.read_text(pathlib.Path(path))
    except (OSError, form.Malformed) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: {reason.lower()}") from None
    # The modules of the run whose graph it is.
    record = trusted.read(pathlib.Path(path).parent, text)
    if record is None:
        return from_json(text, path)
    trusted.import_from(record.path)
    for module in record.modules:
        _import(module, record, path)
    return from_json(text, path, record.modules)


def foreign_modules(text: str) -> list[str]:
    """Return the modules of what a graph made here names, but not every graph may."""
    return sorted(
        {
            module
            for module, name in _references(json.loads(text))
            if not is_of_every_graph(_imported(module, name))
        }
    )


def _import(module: str, record: trusted.Record, path: str) -> None:
    if module.startswith(FILE_PREFIX):
        source.load(module.removeprefix(FILE_PREFIX))
        return
    try:
        importlib.import_module(module)
    except Exception as error:  # of anybody's code
        raise UserError(
            f"{path}: {module} cannot be imported any more: "
            f"{type(error).__name__}: {_first_line(error)}\n"
            f"it was in {' or '.join(record.path)}"
        ) from None


class _Importable(serialization.PyrefPolicy):
    """Names that a graph made here may be saved with: all that can be imported again.

    `_refuse_unsaved` names those that cannot, with their place.
    """

    def allows_import(self, module: str, symbol: str) -> bool:
        """Return True."""
        del module, symbol
        return True

    def allows_value(self, value: Any) -> bool:
        """Return True."""
        del value
        return True


def _nodes_only(cfg: fdl.Buildable) -> fdl.Buildable:
    """Return the graph with dataclass objects as Configs, which JSON can hold."""

    def visit(value: Any, state: daglish.State) -> Any:
        if nodes.is_node(value) and not isinstance(value, fdl.Buildable):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return fdl.Config(
                type(value), **{name: state.call(v) for name, v in fields.items()}
            )
        return state.map_children(value) if state.is_traversable(value) else value

    return daglish.MemoizedTraversal.run(visit, cfg)


def _refuse_unsaved(value: Any, path: str) -> None:
    callee = fdl.get_callable(value) if isinstance(value, fdl.Buildable) else value
    if not inspect.isroutine(callee) and not isinstance(callee, type):
        return
    name = getattr(callee, "__qualname__", "")
    if "<" in name:
        raise UserError(
            f"{path}: {public(callee)} cannot be saved; "
            "give it a name at the top of a module"
        )
    if not AllowList().allows_value(callee) and not _can_be_imported(callee):
        raise UserError(
            f"{path}: '{callee.__module__}.{name}' cannot be imported by that name, "
            "so it cannot be saved; define it at the top of a module"
        )


def _can_be_imported(value: Any) -> bool:
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    return module != "__main__" and _imported(module or "", name) is value


def _imported(module: str, name: str) -> Any:
    """Return a class or function of a module that is imported; else None."""
    place = sys.modules.get(module)
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


def _refusal(module: str, symbol: str) -> str:
    if module.startswith(FILE_PREFIX):
        file = module.removeprefix(FILE_PREFIX)
        return f"needs '{symbol}' of {file}; name that file: --fdl_config={file}"
    package = module.partition(".")[0]
    is_python = package in sys.stdlib_module_names
    return (
        f"'{module}.{symbol}' may not stand in a saved graph; "
        "expected losses, models, optax, jax.nn or public names of runner"
    ) + ("" if is_python else f"\nwhere you trust that package: --trust={package}")


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield module and name of the classes and functions of a saved graph."""
    if isinstance(value, dict):
        if isinstance(module := value.get("module"), str):
            yield module, value.get("name") or ""
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


@functools.cache
def _register_constants() -> None:
    """`jax.nn.relu` and its like are objects, not functions: saved by name."""
    import jax

    for name in dir(jax.nn):
        value = getattr(jax.nn, name)
        if callable(value) and not inspect.isroutine(value) and name[0].islower():
            serialization.register_constant("jax.nn", name, compare_by_identity=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
