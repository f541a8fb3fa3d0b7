"""Reference of a class or function, from its signature and its docstring."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.graph import describe, literals, nodes
from runner.graph.names import public

_HEADER = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
_ENTRY = re.compile(r"^  (\w+): (.*)$")
_SHOWN_BELOW = ("Args", "Attributes")


def summary(value: Any) -> str:
    """Return the first line of the docstring."""
    return next(iter(_docstring(value).splitlines()), "")


def text(value: Any) -> str:
    """Return the whole reference: signature, docstring, fields, where it stands."""
    sections = _sections(_docstring(value))
    fields = list(_fields(value))
    lines = [public(value), "", *sections.pop("")]
    if fields:
        lines += ["", "Fields:", *_table(fields)]
    for name, section in sections.items():
        if name not in _SHOWN_BELOW:
            lines += ["", f"{name}:", *section]
    lines += ["", *(f"{name}: {shown}" for name, shown in _contract(value))]
    return "\n".join(lines).rstrip() + "\n"


def settings() -> Iterator[tuple[str, str, str]]:
    """Yield every gin setting: `section.name=default`, its type, its text."""
    from runner import runtime

    for section, kind in typing.get_type_hints(runtime.Runtime).items():
        texts = _texts_of_fields(kind)
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            value = nodes.defaults(kind)[field.name]
            name = f"{section}.{field.name}={describe.leaf(value)}"
            yield name, literals.show(hints[field.name]), texts.get(field.name, "")


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows of text in columns that align; the last one may be long."""
    widths = [min(max(map(len, column)), 40) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _docstring(value: Any) -> str:
    """Return the docstring; of a dataclass without one, nothing."""
    text = inspect.getdoc(value) or ""
    generated = isinstance(value, type) and text.startswith(f"{value.__name__}(")
    return "" if generated else text


def _sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section of a docstring; "" is what has no header."""
    sections: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[1]
        elif name and line and not line.startswith(" "):
            name = ""
        if not header:
            sections.setdefault(name, []).append(line)
    return {name: _without_blank_ends(lines) for name, lines in sections.items()}


def _without_blank_ends(lines: list[str]) -> list[str]:
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return text.splitlines()


def _texts_of_fields(value: Any) -> dict[str, str]:
    """Return the text of each field, those of base classes included."""
    texts: dict[str, str] = {}
    for kind in reversed(inspect.getmro(value) if isinstance(value, type) else [value]):
        sections, name = _sections(inspect.cleandoc(kind.__doc__ or "")), ""
        for line in [*sections.get("Args", []), *sections.get("Attributes", [])]:
            if entry := _ENTRY.match(line):
                name = entry[1]
                texts[name] = entry[2]
            elif name:
                texts[name] = f"{texts[name]} {line.strip()}"
    return texts


def _fields(value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the name, `type = default` and text of each field."""
    texts = _texts_of_fields(value)
    for name, child in nodes.fields(value).items():
        kind = literals.show(child.hint)
        if child.value is not nodes.UNSET:
            kind += f" = {describe.leaf(child.value)}"
        yield str(name), kind, texts.get(str(name), "")


def _table(fields: list[tuple[str, str, str]]) -> list[str]:
    lines = []
    for name, kind, explained in fields:
        lines.append(f"  {name}: {kind}")
        lines += [f"      {explained}"] * bool(explained)
    return lines


def _contract(value: Any) -> Iterator[tuple[str, str]]:
    """Yield what a loss declares on its class, and the file."""
    for name in ("unit", "scope"):
        if isinstance(text := getattr(value, name, None), str):
            yield name.capitalize(), text
    needs = getattr(value, "needs", None)
    if isinstance(needs, frozenset):
        yield "Needs", ", ".join(sorted(needs)) or "nothing"
    target = inspect.unwrap(getattr(value, "func", value))
    try:
        file, line = inspect.getsourcefile(target), inspect.getsourcelines(target)[1]
    except (OSError, TypeError):
        return
    if file:
        home = Path(__file__).parents[2]
        path = Path(file)
        shown = path.relative_to(home) if path.is_relative_to(home) else path
        yield "File", f"{shown}:{line}"
