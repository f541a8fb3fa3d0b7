"""`metrics.jsonl`: one JSON object a write, whole lines whatever happens.

    {"step": 10, "learning/ce": 6.21, "learning/total": 6.22, ...}
    {"step": 10, "samples/0": "The module ..."}

A step may have several lines (training, an evaluation, texts); `read` joins them.
JSON knows no NaN or infinity: they are written as null.

A file that has grown to `PART_BYTES` is put away as `metrics-STEP.jsonl`, by its last
step, and a new one begun. Functions here take the name of the newest, and mind all.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runner import atomic_files
from runner.files import confined, form
from runner.writers.base import PartialWriter
from runner.writers.tensorboard import PART_BYTES

_LARGEST = 2.0**63
_PART = re.compile(r"-[0-9]{1,18}$")


class JsonLinesWriter(PartialWriter):
    """Scalars and texts, one unbuffered write a line.

    Opening removes the lines after `start_step` and the half line of a killed run.
    """

    def __init__(
        self, path: str | Path, *, start_step: int = 0, part_bytes: int = PART_BYTES
    ):
        self._path, self._part_bytes = Path(path), part_bytes
        self._last_step = start_step
        self._path.parent.mkdir(parents=True, exist_ok=True)
        truncate_after(self._path, start_step)
        self._file = confined.open_to_append(self._path)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        self._write(step, {name: _number(value) for name, value in scalars.items()})

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._write(step, texts)

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if values:
            line = json.dumps({"step": int(step), **values}, allow_nan=False)
            self._put_away_before(int(step))
            confined.append_whole(self._file, line.encode() + b"\n")
            self._last_step = int(step)

    def _put_away_before(self, step: int) -> None:
        """Begin a new file where this one is full; lines of a step stay together."""
        part = self._path.with_stem(f"{self._path.stem}-{self._last_step}")
        full = os.fstat(self._file.fileno()).st_size >= self._part_bytes
        if full and step > self._last_step and not part.exists():
            os.replace(self._path, part)
            file = confined.open_to_append(self._path)
            self._file.close()
            self._file = file

    def flush(self) -> None:
        """Put the file on the disk, for a machine that loses power."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def truncate_after(path: str | Path, step: int) -> None:
    """Remove the lines of later steps, and lines that are not whole."""
    path = Path(path)
    # The part that holds the step is the newest again; the ones after it go.
    for part in reversed(_parts(path)):
        if _last_step(part) > step:
            os.replace(part, path)
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
    for file in (*_parts(path), path):
        if file.exists():
            for line in file.read_bytes().splitlines(keepends=True):
                if row := _parse(line):
                    yield row


def _parts(path: Path) -> list[Path]:
    """Return the files that were put away, the oldest first."""
    beside = path.parent.glob(f"{path.stem}-*{path.suffix}")
    parts = [file for file in beside if _PART.search(file.stem) and file.is_file()]
    return sorted(parts, key=_last_step)


def _last_step(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])


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
