"""A graph as a Python file that makes it again and can be edited: `config.py`."""

import collections.abc
import math
from typing import Any

import fiddle as fdl
from fiddle import daglish

from runner.graph import nodes
from runner.graph.names import FILE_PREFIX, public

_INDENT = "    "


def to_python(cfg: fdl.Buildable) -> str:
    """Return the source of a config file: nested calls, shared nodes in variables."""
    writer = _Writer(_used_twice(cfg))
    body = writer.expression(cfg, _INDENT)
    imports = "".join(f"import {module}\n" for module in sorted(writer.imports))
    # Nodes of other files: loaded by path, as the command line did.
    files = "".join(
        f'{name} = source.load("{path}")\n' for name, path in writer.files.items()
    )
    if files:
        imports += "from runner.graph import source\n"
        files = "\n" + files
    return (
        '"""The graph of a run, as resolved.\n\n'
        "    runner --fdl_config=config.py --workdir=NEW\n"
        '"""\n\n'
        f"{imports}{files}\n\n"
        "def config():\n"
        f"{''.join(writer.definitions)}"
        f"{_INDENT}return {body}\n"
    )


class _Writer:
    def __init__(self, shared: dict[int, str]):
        self.shared = shared
        self.definitions: list[str] = []
        self.imports = {"fiddle as fdl"}
        self.files: dict[str, str] = {}
        self._defined: set[int] = set()

    def expression(self, value: Any, indent: str) -> str:
        if id(value) in self.shared:
            return self._variable(value)
        return self._plain(value, indent)

    def _variable(self, value: Any) -> str:
        name = self.shared[id(value)]
        if id(value) not in self._defined:
            self._defined.add(id(value))
            expression = self._plain(value, _INDENT)
            self.definitions.append(f"{_INDENT}{name} = {expression}\n")
        return name

    def _plain(self, value: Any, indent: str) -> str:
        deeper = indent + _INDENT
        if isinstance(value, fdl.Buildable):
            return self._call(value, indent)
        if nodes.is_node(value):
            fields = {key: c.value for key, c in (nodes.children(value) or {}).items()}
            return self._call(fdl.Config(type(value), **fields), indent)  # type: ignore
        if isinstance(value, (list, tuple)):
            left, right = "[]" if isinstance(value, list) else "()"
            items = [self.expression(item, deeper) for item in value]
            return _bracketed(left, items, right, indent, lone=isinstance(value, tuple))
        if isinstance(value, collections.abc.Mapping):
            pairs = [f"{k!r}: {self.expression(v, deeper)}" for k, v in value.items()]
            return _bracketed("{", pairs, "}", indent)
        if callable(value) and hasattr(value, "__name__"):
            return self._name(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        return repr(value)

    def _call(self, node: fdl.Buildable, indent: str) -> str:
        deeper = indent + _INDENT
        items = [self._name(fdl.get_callable(node))]
        for key, value in node.__arguments__.items():
            expression = self.expression(value, deeper)
            items.append(expression if isinstance(key, int) else f"{key}={expression}")
        return _bracketed(f"fdl.{type(node).__name__}(", items, ")", indent)

    def _name(self, value: Any) -> str:
        module, name = value.__module__, value.__qualname__
        if module.startswith(FILE_PREFIX):
            path = module.removeprefix(FILE_PREFIX)
            variable = path.rpartition("/")[2].removesuffix(".py")
            self.files[variable] = path
            return f"{variable}.{name}"
        qualified = public(value)
        if "." in qualified:
            self.imports.add(qualified.removesuffix("." + name))
        return qualified


def _bracketed(
    left: str, items: list[str], right: str, indent: str, *, lone: bool = False
) -> str:
    line = ", ".join(items) + ("," if lone and len(items) == 1 else "")
    if len(indent) + len(left) + len(line) + len(right) < 70 and "\n" not in line:
        return f"{left}{line}{right}"
    deeper = indent + _INDENT
    return left + "".join(f"\n{deeper}{item}," for item in items) + f"\n{indent}{right}"


def _used_twice(cfg: fdl.Buildable) -> dict[int, str]:
    """Return a variable's name, by id, for each node that is used more than once."""
    paths: dict[int, list[str]] = {}
    for value, path in daglish.iterate(cfg, memoized=False):
        if isinstance(value, fdl.Buildable):
            paths.setdefault(id(value), []).append(daglish.path_str(path))
    names: dict[int, str] = {}
    for key, places in paths.items():
        if len(places) > 1:
            stem = places[0].rpartition(".")[2].split("[")[0] or "node"
            names[key] = stem if stem not in names.values() else f"{stem}_{len(names)}"
    return names
