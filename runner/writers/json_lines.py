"""`metrics.jsonl`: one JSON object a write, whole lines whatever happens.

    {"step": 10, "learning/ce": 6.21, "learning/total": 6.22, ...}
    {"step": 10, "samples/0": "The module ..."}

A step may have several lines (training, an evaluation, texts); `read` joins them.
JSON knows no NaN or infinity: they are written as null.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runner import atomic_files
from runner.files import confined, form
from runner.writers.base import PartialWriter

_LARGEST = 2.0**63


class JsonLinesWriter(PartialWriter):
    """Scalars and texts, one unbuffered write a line.

    Opening removes the lines after `start_step` and the half line of a killed run.
    """

    def __init__(self, path: str | Path, *, start_step: int = 0):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        truncate_after(path, start_step)
        self._file = confined.open_to_append(path)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._write(step, {name: _number(value) for name, value in scalars.items()})

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._write(step, texts)

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if values:
            line = json.dumps({"step": int(step), **values}, allow_nan=False)
            confined.append_whole(self._file, line.encode() + b"\n")

    def flush(self) -> None:
        """Put the file on the disk, for a machine that loses power."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def truncate_after(path: str | Path, step: int) -> None:
    """Remove the lines of later steps, and lines that are not whole."""
    path = Path(path)
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    remaining = [
        line for line in lines if (row := _parse(line)) and row["step"] <= step
    ]
    if remaining == lines:
        return
    atomic_files.write_atomic(path, b"".join(remaining))


def read(path: str | Path) -> list[dict[str, Any]]:
    """Return one dictionary a step, in order; a half line at the end is left out."""
    steps: dict[int, dict[str, Any]] = {}
    for row in _rows(Path(path)):
        steps.setdefault(row["step"], {}).update(row)
    return [steps[step] for step in sorted(steps)]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines(keepends=True):
        if row := _parse(line):
            yield row


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a row; None for a line that is not whole, or of another form."""
    try:
        row = form.load(line) if line.endswith(b"\n") else None
    except form.Malformed:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return row if all(map(_is_value, row.values())) else None


def _is_value(value: Any) -> bool:
    is_number = type(value) in (int, float) and abs(value) < _LARGEST
    return value is None or isinstance(value, str) or is_number


def _number(value: Any) -> float | int | None:
    number = np.asarray(value).item()
    return number if math.isfinite(number) else None
