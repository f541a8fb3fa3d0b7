"""Graphs in files: JSON that is read through an allow-list.

A work directory can be handed on, so its `config.json` is not trusted: it may name
losses, models, optax and jax.nn, the runner's own dataclasses and public functions,
and nothing else of Python. What a config file defines can be saved, and so can losses,
weights and models that it imports from elsewhere; they are found again only by a
command that names that file.
"""

import dataclasses
import functools
import inspect
import json
import pathlib
import sys
from typing import Any

import fiddle as fdl
from fiddle import daglish
from fiddle.experimental import serialization

from runner.errors import UserError
from runner.files import form
from runner.graph import nodes, renames
from runner.graph.names import FILE_PREFIX, public, where

_WHOLE = ("losses", "models", "optax", "jax.nn", "jax._src.nn", "flax.nnx")
_PUBLIC = ("runner", "runner.data", "runner.optimizers")
_CONTAINERS = (list, tuple, dict, set, frozenset, bytes, slice)
_FORMAT_KEY, _FORMAT = "retort_format", 1  # 1: `renames.DEFAULTS` are today's
_TYPES = ("bfloat16", "float16", "float32", "float64", "int32")  # of jax.numpy


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
        content = json.loads(serialization.dump_json(plain, AllowList()))
        return json.dumps({**content, _FORMAT_KEY: _FORMAT}, indent=1) + "\n"
    except (
        serialization.UnserializableValueError,
        serialization.PyrefPolicyError,
    ) as error:
        raise UserError(f"the graph cannot be saved: {_first_line(error)}") from None


def from_json(text: str, source: str) -> fdl.Buildable:
    """Read a graph from JSON.

    Args:
      text: the JSON.
      source: the file's name, for messages.

    Raises:
      UserError: it is damaged, or names what it may not.
    """
    _register_constants()
    try:
        content = form.load(text)
        version = content.pop(_FORMAT_KEY, 0) if isinstance(content, dict) else 0
        content = renames.in_json(content)
        cfg = serialization.load_json(json.dumps(content), AllowList())
    except form.Malformed as error:
        raise UserError(f"{source}: not a saved graph, or damaged: {error}") from None
    except serialization.PyrefPolicyError as error:
        raise UserError(f"{source}: {_refusal(error.module, error.symbol)}") from None
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(f"{source}: {_first_line(error)}") from None
    except Exception:  # fiddle checks no form: an index, a key, an attribute, no end
        raise UserError(f"{source}: not a saved graph, or damaged") from None
    if not isinstance(cfg, fdl.Buildable):
        raise UserError(f"{source}: expected a graph, found {type(cfg).__name__}")
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
    return from_json(text, path)


class AllowList(serialization.PyrefPolicy):
    """The names that a saved graph may contain.

    Checked before the import and again on the value, so that an allowed module gives
    no access to what it merely imported.
    """

    def allows_import(self, module: str, symbol: str) -> bool:
        """Return True if `module` may be imported for `symbol`."""
        del symbol
        return _starts(module, (*_WHOLE, "runner", "jax.numpy", "fiddle")) or (
            module in ("builtins", "functools") or module in sys.modules
        )

    def allows_value(self, value: Any) -> bool:
        """Return True if an imported value may be part of a graph."""
        if value in _CONTAINERS or value is functools.partial:
            return True
        home = getattr(value, "__module__", None) or ""
        if _starts(home, ("fiddle",)):
            return _is_fiddle_node(value)
        if _starts(home, ("runner",)):
            return dataclasses.is_dataclass(value) or _is_public(value, home)
        if home == "jax.numpy":
            return getattr(value, "__name__", "") in _TYPES
        return _starts(home, _WHOLE) or _is_loaded_file(home) or _is_of_our_kinds(value)


def _is_fiddle_node(value: Any) -> bool:
    from fiddle._src import config, tagging  # their names are in fiddle's own JSON

    return value in (
        config.BuildableTraverserMetadata,
        config.NoValue,
        tagging.TaggedValueCls,
        tagging.tagged_value_fn,
    ) or (isinstance(value, type) and issubclass(value, fdl.Buildable))


def _is_public(value: Any, home: str) -> bool:
    package, name = where(value, home, getattr(value, "__qualname__", ""))
    exported = getattr(sys.modules[package], "__all__", None)
    if exported is None:
        return package in _PUBLIC and not name.startswith("_")
    return package in _PUBLIC and name in exported


def _is_loaded_file(module: str) -> bool:
    return module.startswith(FILE_PREFIX) and module in sys.modules


def _is_of_our_kinds(value: Any) -> bool:
    """Return True for subclasses of the base classes of `losses` and `models`."""
    import losses
    import models

    kinds = (
        losses.Balance,
        losses.Loss,
        losses.Reweighting,
        losses.TokenWeight,
        models.Model,
    )
    return isinstance(value, type) and issubclass(value, kinds)


def _starts(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in packages)


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
    if not AllowList().allows_value(callee):
        raise UserError(f"{path}: {_refusal(callee.__module__ or '?', name)}")


def _refusal(module: str, symbol: str) -> str:
    if module.startswith(FILE_PREFIX):
        file = module.removeprefix(FILE_PREFIX)
        return f"needs '{symbol}' of {file}; name that file: --fdl_config={file}"
    return (
        f"'{module}.{symbol}' may not stand in a saved graph; "
        "expected losses, models, optax, jax.nn or public names of runner; a loss or "
        "model of your own is found by --fdl_config=FILE, which imports it"
    )


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
