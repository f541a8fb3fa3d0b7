"""Names in graphs that were saved before a rename, and what they are called now.

The tables hold what changed after commit 4c223cb. Graphs are read through them
(`in_json`), and so are the described lines of a run (`in_text`): a work directory of
the old names goes on under the new ones.
"""

import importlib
import re
from collections.abc import Mapping
from typing import Any

import fiddle as fdl
from fiddle import daglish

import losses
import models
from losses import renamed as losses_renamed
from runner.graph import names

# Classes and functions, by the old name alone: none of them means something else now.
NAMES = {
    **losses_renamed.RENAMED,
    **models.RENAMED,
    "ByteBpe": "ByteBPE",
    "Divided": "PerFrequency",
    "EmaTeacher": "EMATeacher",
    "GgufTokenizer": "GGUFTokenizer",
    "RmsNorm": "RMSNorm",
    "relaxed": "in_float32",
}

# Packages whose exported names are read from the package, wherever they now live.
_FACADES = ("losses", "models", "runner.data", "runner.teachers", "runner")

# Other modules that moved.
MODULES = {"runner.records.modes": "runner.recording.modes"}

# Fields, by the class that declares them, under its name of today.
FIELDS = {
    "Divergence": {"over_records": "sparse"},
    "MoE": {"renormalise": "renormalize"},
}

# String values of fields, by class and field of today.
VALUES = {
    ("Divergence", "sparse"): {
        "renormalise_both": "renormalize_both",
        "renormalise_teacher": "renormalize_teacher",
    },
}

# Fields that a graph leaves out where they have their default, whose default was
# another one then.
DEFAULTS: Mapping[Any, Mapping[str, Any]] = {
    losses.LossTerm: {"mask": losses.target_mask}
}


def symbol(module: str, name: str) -> tuple[str, str]:
    """Return the module and name under which an old module's `name` is found now."""
    if not _is_ours(module):
        return module, name
    name = NAMES.get(name, name)
    for package in _FACADES:
        inside = module == package or module.startswith(package + ".")
        if inside and name in importlib.import_module(package).__all__:
            return package, name
    return MODULES.get(module, module), name


def field(function: Any, name: str) -> str:
    """Return today's name of the field `name` of a class or function."""
    for cls in getattr(function, "__mro__", ()):
        if name in FIELDS.get(cls.__name__, ()):
            return FIELDS[cls.__name__][name]
    return name


def value(function: Any, name: str, old: Any) -> Any:
    """Return today's value for `old` in the field `name` (of today) of a class."""
    if not isinstance(old, str):
        return old
    for cls in getattr(function, "__mro__", ()):
        old = VALUES.get((cls.__name__, name), {}).get(old, old)
    return old


def in_json(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename in the parsed JSON of a graph (fiddle's serialisation), in place.

    Raises:
      KeyError, TypeError, ValueError: it is not such JSON.
    """
    objects = content["objects"]
    _rename_symbols([content["root"], objects])
    for node in objects.values():
        # A node's class and the names of its fields stand in its metadata.
        metadata = _dereferenced(node["metadata"], objects)
        attributes = dict(metadata["items"]) if _is_of_node(metadata) else {}
        if attributes:
            _rename_fields(node, attributes, objects)
    return content


def set_old_defaults(cfg: fdl.Buildable) -> None:
    """Set what a graph of then leaves out to what it meant by that, in place."""
    for node, _ in daglish.iterate(cfg):
        if isinstance(node, fdl.Buildable):
            for name, old in DEFAULTS.get(fdl.get_callable(node), {}).items():
                if name not in node.__arguments__:
                    setattr(node, name, old)


def in_text(described: str) -> str:
    """Rename in the lines of a described graph (see `runner.graph.describe`)."""
    # Names of fields depend on the class of their node.
    pairs = (line.partition(": ") for line in described.splitlines() if line)
    old = {path: text for path, _, text in pairs}
    classes = {path: named_class(text) for path, text in old.items()}

    def path_now(path: str) -> str:
        here, now = "", ""
        for part in re.findall(r"\.?\w+|\[[^]]*\]|<root>", path):
            function = classes.get(here or "<root>")
            bare = part.removeprefix(".")
            here += part
            now += part[: len(part) - len(bare)] + field(function, bare)
        return now

    # A line is a reference, a string that may have been renamed, or other names.
    lines = []
    for path, text in old.items():
        now = path_now(path)
        if text.startswith("-> "):
            text = "-> " + path_now(text[3:])
        elif re.fullmatch(r"'[^']*'", text):
            holder, _, name = now.rpartition(".")
            holder = path.rpartition(".")[0]
            # Between its quotes a string stands with its escapes.
            text = f"'{value(classes.get(holder or '<root>'), name, text[1:-1])}'"
        else:
            text = _rename_tokens(text)
        lines.append(f"{now}: {text}\n")
    return "".join(lines)


def _rename_symbols(tree: Any) -> None:
    if isinstance(tree, dict):
        if tree.get("type") == "pyref":
            tree["module"], tree["name"] = symbol(tree["module"], tree["name"])
        for inner in tree.values():
            _rename_symbols(inner)
    elif isinstance(tree, list):
        for inner in tree:
            _rename_symbols(inner)


def _is_of_node(metadata: Any) -> bool:
    kind = metadata.get("type") if isinstance(metadata, dict) else None
    return isinstance(kind, dict) and kind["name"] == "BuildableTraverserMetadata"


def _rename_fields(
    node: Mapping[str, Any], attributes: Mapping[str, Any], objects: Mapping[str, Any]
) -> None:
    reference = attributes["Attr(name='fn_or_cls')"]
    function = _imported(reference["module"], reference["name"])
    arguments = _dereferenced(attributes["Attr(name='argument_names')"], objects)
    for item in arguments["items"]:
        if isinstance(item[1], str):  # a positional argument has a number
            item[1] = field(function, item[1])
    for item in node["items"]:
        match = re.fullmatch(r"Attr\(name='(\w+)'\)", item[0])
        if match and item[1]["type"] == "leaf":
            name = field(function, match[1])
            item[1]["value"] = value(function, name, item[1]["value"])


def _dereferenced(item: Any, objects: Mapping[str, Any]) -> Any:
    is_reference = isinstance(item, dict) and item.get("type") == "ref"
    return objects[item["key"]] if is_reference else item


def named_class(text: str) -> Any:
    """Return the class or function that a described node is of; None for a leaf."""
    match = re.fullmatch(r"(?:partial\()?([\w.]+)\.(\w+)\)?", text)
    return _imported(*symbol(match[1], match[2])) if match else None


def _rename_tokens(text: str) -> str:
    """Rename every dotted name outside quotes."""

    def renamed(match: re.Match) -> str:
        if match[1] is None:  # a string
            return match[0]
        new = _imported(*symbol(match[1], match[2]))
        return match[0] if new is None else names.public(new)

    strings = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
    return re.sub(rf"{strings}|\b([a-z_]\w*(?:\.\w+)*)\.(\w+)\b", renamed, text)


def _imported(module: str, name: str) -> Any:
    """Return one of our own classes or functions; None where there is none."""
    if not _is_ours(module):
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in ("losses", "models", "runner")
