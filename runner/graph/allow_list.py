"""The names that a saved graph may hold: losses, models, optax, and what is trusted."""

import dataclasses
import functools
import sys
from collections.abc import Collection
from typing import Any

import fiddle as fdl
from fiddle.experimental import serialization

from runner.files import trusted
from runner.graph.names import FILE_PREFIX, where

_WHOLE = ("losses", "models", "optax", "jax.nn", "jax._src.nn", "flax.nnx")
_PUBLIC = (
    "runner",
    "runner.averages",
    "runner.data",
    "runner.optimizers",
    "runner.step_rules",
)
_CONTAINERS = (list, tuple, dict, set, frozenset, bytes, slice)
_TYPES = ("bfloat16", "float16", "float32", "float64", "int32")  # of jax.numpy


class AllowList(serialization.PyrefPolicy):
    """The names that a saved graph may contain.

    Checked before the import and again on the value, so that an allowed module gives
    no access to what it merely imported.
    """

    def __init__(self, modules: Collection[str] = ()):
        """Allow, besides, whatever `modules` define."""
        self._modules = modules

    def allows_import(self, module: str, symbol: str) -> bool:
        """Return True if `module` may be imported for `symbol`."""
        del symbol
        if trusted.is_admitted(module, self._modules):
            return True
        return _starts(module, (*_WHOLE, "runner", "jax.numpy", "fiddle")) or (
            module in ("builtins", "functools") or module in sys.modules
        )

    def allows_value(self, value: Any) -> bool:
        """Return True if an imported value may be part of a graph."""
        home = getattr(value, "__module__", None) or ""
        if trusted.is_admitted(home, self._modules):
            return True
        if _is_loaded_file(home) or _is_of_our_kinds(value):
            return True
        return is_of_every_graph(value)


def is_of_every_graph(value: Any) -> bool:
    """Return True for what a graph may name whoever made it."""
    if value in _CONTAINERS or value is functools.partial:
        return True
    home = getattr(value, "__module__", None) or ""
    if _starts(home, ("fiddle",)):
        return _is_fiddle_node(value)
    if _starts(home, ("runner",)):
        return dataclasses.is_dataclass(value) or _is_public(value, home)
    if home == "jax.numpy":
        return getattr(value, "__name__", "") in _TYPES
    return _starts(home, _WHOLE)


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
