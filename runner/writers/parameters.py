"""The graph of a run as parameters by name, for places that compare runs by them."""

import ast
from pathlib import Path

from runner.files import form

Value = bool | int | float | str


def read_text(workdir: Path) -> str:
    """Return `config.txt`, the graph as sorted lines; empty where there is none.

    Raises:
      UserError: it is damaged.
    """
    path = workdir / "config.txt"
    with form.of_file(path):
        return form.read_text(path)
    return ""


def parse(text: str) -> dict[str, Value]:
    """Return numbers, booleans and texts by their path; of the rest the line's text."""
    pairs = (line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return {path: _value(value) for path, value in pairs}


def _value(text: str) -> Value:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, Value) else text


def names(workdir: Path) -> tuple[str, str]:
    """Return the name of a run, and that of the sweep it is a unit of, or `""`."""
    is_unit = workdir.parent.name == "units"
    return workdir.name, workdir.parent.parent.name if is_unit else ""
