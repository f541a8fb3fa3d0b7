"""Columns of users and items, from a file."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from runner.data import csv_lines
from runner.data.columns import read_fields
from runner.errors import UserError, nearest


def read(path: Path, fields: list[str]) -> list[np.ndarray]:
    """Return columns of names or numbers, `[n]` each.

    Args:
      path: `.csv` with a header, `.npz` of arrays, or JSON lines.
      fields: names of the columns.

    Raises:
      UserError: It has no such column, or one holds something else or nothing.
    """
    if path.suffix == ".csv":
        table: dict[str, Any] = _read_csv(path, fields)
    else:
        table = read_fields(path, fields)
    return [_names(table[name], f"{path}: {name!r}") for name in fields]


def _names(values: Any, what: str) -> np.ndarray:
    """Return a column whose entries can be told apart.

    Raises:
      UserError: It is no list of strings or of finite numbers.
    """
    wanted = f"{what} must be a list of strings or of finite numbers"
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "iufU":
            raise UserError(f"{wanted}, got {values.dtype} {list(values.shape)}")
        if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
            place = int(np.argmin(np.isfinite(values)))
            raise UserError(f"{wanted}, entry {place + 1} is {values[place]}")
        return values
    for number, value in enumerate(values, start=1):
        named = isinstance(value, str | int) and not isinstance(value, bool)
        if not named and not (isinstance(value, float) and math.isfinite(value)):
            raise UserError(f"{wanted}, entry {number} is {value!r}")
    return np.asarray(values)


def _read_csv(path: Path, fields: list[str]) -> dict[str, list[str]]:
    """Return columns of a file with a header.

    Raises:
      UserError: It has no such column, or a line is short.
    """
    header, *lines = csv_lines.read(path) or [[]]
    for name in fields:
        if name not in header:
            raise UserError(f"{path}: no column {name!r}{nearest(name, header)}")
    columns: dict[str, list[str]] = {name: [] for name in fields}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        row = dict(zip(header, line, strict=False))
        if not all(row.get(name) for name in fields):
            raise UserError(f"{path}:{number}: no {' or '.join(fields)}")
        for name in fields:
            columns[name].append(row[name])
    return columns
