"""Columns: numbers, names and lists of rows, from a file beside the data."""

import dataclasses
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from runner import atomic_files
from runner.data.dataset import Column, Dataset
from runner.data.source import DataSource
from runner.errors import UserError, nearest
from runner.files import form

By = Literal["row", "document"]


@dataclasses.dataclass(frozen=True)
class Columns(DataSource):
    """Data with further arrays a row, `[b]` in the batch under the names of `fields`.

    Masks, losses, token weights and teachers read them: `losses.ColumnMask`,
    `losses.ColumnWeight`, or any function of `outputs.batch`. Integers are int32, true
    and false are bool, other numbers float32; a string is `losses.name_id(string)`.
    Lists of integers, one a row, are int32 `[b n]`, -1 at the end of shorter ones; an
    array of other numbers, `[rows n]` in `.npz`, is float32 `[b n]`.

    The file is JSON lines of objects, or `.npz` of arrays. Where `FILE.json` lies
    beside it (`data.write_columns`), it must be that file, of these very rows.

    Attributes:
      data: The rows.
      file: Path of the file.
      fields: Names of the columns to join.
      by: What an entry of the file is of: a row of `data`; or a document of packed
        text, those without a token left out. Then each position has the entry of its
        document, `[b T]`.
      key: Field with the number of the row or document that an entry is of, from 0;
        "" where the entries are in the order of the data.

    Raises:
      UserError: No fields, one of them twice, or there is no such `by`.
    """

    data: DataSource
    file: str
    fields: Sequence[str]
    by: By = "row"
    key: str = ""

    def __post_init__(self) -> None:
        if not self.fields or isinstance(self.fields, str):
            raise UserError(f"fields must name at least one column, got {self.fields}")
        if len(set(self.fields)) < len(self.fields):
            raise UserError(f"fields names a column twice: {', '.join(self.fields)}")
        if self.by not in get_args(By):
            raise UserError(f"by is {self.by!r}{nearest(self.by, get_args(By))}")

    def check(self) -> None:
        self.data.check()
        if not Path(self.file).expanduser().is_file():
            raise UserError(f"no such file of columns: {self.file}")

    def load(self, *, cache: str = "") -> Dataset:
        dataset = self.data.load(cache=cache)
        path = Path(self.file).expanduser()
        _check_manifest(path, dataset)
        table = read_fields(path, [*self.fields, *([self.key] if self.key else [])])
        count = _entries(dataset, self.by, path)
        order = _order(table.pop(self.key, None), count, path, self.key)
        columns = {}
        for name in self.fields:
            values = _typed(table[name], f"{path}: {name!r}")
            if values.ndim > 1 and self.by != "row":
                raise UserError(f"{path}: {name!r} holds lists, which are of rows")
            if len(values) != count:
                raise UserError(
                    f"{path} has {len(values):,} entries, the data {count:,} {self.by}s"
                )
            columns[name] = Column(values=_placed(values, order), by=self.by)
        return dataset.with_columns(columns)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Description of a file of columns, which lies beside it.

    Attributes:
      data: Fingerprint of the rows that it belongs to.
      sha256: Of the whole file.
      format: Version of this description.
    """

    data: str
    sha256: str
    format: int = 1


def write_columns(
    path: Path, columns: Mapping[str, np.ndarray], *, dataset: Dataset
) -> None:
    """Write columns as `.npz`, and beside it what data they belong to.

    Args:
      path: The file to write, `NAME.npz`.
      columns: `[rows]` or `[rows n]` each, in the order of the rows.
      dataset: The rows.

    Raises:
      UserError: The name is another one, or a column has not one entry a row.
    """
    if path.suffix != ".npz":
        raise UserError(f"columns are written as NAME.npz, got {path.name}")
    for name, values in columns.items():
        if np.shape(values)[:1] != (len(dataset),) or np.ndim(values) > 2:
            raise UserError(
                f"column {name!r} must have the shape ({len(dataset)},) or "
                f"({len(dataset)}, n), got {np.shape(values)}"
            )
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # What `np.savez` does, but for names such as "file".
        with zipfile.ZipFile(temporary, "w") as arrays:
            for name, values in columns.items():
                with arrays.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(
                        entry, np.asarray(values), allow_pickle=False
                    )
        atomic_files.sync(temporary)
        manifest = Manifest(data=dataset.fingerprint, sha256=_sha256(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    atomic_files.write_atomic(
        _manifest_path(path), json.dumps(dataclasses.asdict(manifest)) + "\n"
    )


def _check_manifest(path: Path, dataset: Dataset) -> None:
    """Refuse a file that is not the one, or not of the data, that its manifest names.

    Raises:
      UserError: It is another, or the manifest is malformed.
    """
    sidecar = _manifest_path(path)
    try:
        manifest = form.read(Manifest, sidecar)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"{sidecar} is not a manifest of columns: {error}") from error
    if manifest.sha256 != _sha256(path):
        raise UserError(f"{path} is not the file that {sidecar.name} describes")
    if manifest.data != dataset.fingerprint:
        raise UserError(
            f"{path} holds columns of other data:\n"
            f"{manifest.data}, this is {dataset.fingerprint}"
        )


def _manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entries(dataset: Dataset, by: By, path: Path) -> int:
    """Return how many entries the file must have.

    Raises:
      UserError: The data has no documents.
    """
    if by == "row":
        return len(dataset)
    if dataset.num_documents is None:
        raise UserError(f"{path}: by='document' wants packed text; use by='row'")
    return dataset.num_documents


def read_fields(path: Path, fields: Sequence[str]) -> dict[str, Any]:
    """Return some columns of a file, as lists or arrays.

    Raises:
      UserError: It is neither form, or a column is missing.
    """
    if path.suffix == ".npz":
        return _read_npz(path, fields)
    columns: dict[str, list[Any]] = {name: [] for name in fields}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{place}: neither JSON lines nor a file named .npz: "
                    f"{str(error).splitlines()[0]}"
                ) from error
            if not isinstance(entry, dict):
                raise UserError(f"{place}: expected a JSON object")
            for name in fields:
                if name not in entry:
                    raise UserError(f"{place}: no field {name!r}{nearest(name, entry)}")
                columns[name].append(entry[name])
    return columns


# What NumPy, zipfile and zlib raise of bytes that they did not write.
_DAMAGED = (
    *(ValueError, OSError, EOFError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


def _read_npz(path: Path, fields: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        # NumPy leaves a file open that it has opened itself and cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for name in fields:
                if name not in arrays:
                    raise UserError(
                        f"{path}: no column {name!r}{nearest(name, arrays.files)}"
                    )
            return {name: arrays[name] for name in fields}
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{path} is not a file of arrays: {error}") from error


def _typed(values: Any, what: str) -> np.ndarray:
    """Return a column as bool, int32 or float32; strings by their ids.

    Raises:
      UserError: It holds something else, several kinds, or numbers out of range.
    """
    if isinstance(values, list) and values and isinstance(values[0], list):
        values = _padded(values, what)
    if not isinstance(values, np.ndarray):
        kinds = {type(x) for x in values}
        if kinds == {int, float}:
            kinds = {float}
        if len(kinds) != 1 or not kinds <= {bool, int, float, str}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
            raise UserError(
                f"{what} must hold numbers, strings or true and false, got {names}"
            )
        values = np.array(values)
        if values.dtype == object:  # an integer beyond 64 bits
            raise UserError(f"{what} holds integers beyond int32")
    lists = values.ndim == 2 and values.dtype.kind in "iuf"
    if not lists and (values.ndim != 1 or values.dtype.kind not in "biufU"):
        raise UserError(
            f"{what} must be a list of numbers, strings or true and false, got "
            f"{values.dtype} {list(values.shape)}"
        )
    match values.dtype.kind:
        case "b":
            return values
        case "U":
            return _ids(values, what)
        case "f":
            if not np.all(np.isfinite(values.astype(np.float32))):
                raise UserError(f"{what} holds a number that is not finite in float32")
            return values.astype(np.float32)
    limits = np.iinfo(np.int32)
    if values.size and not (limits.min <= values.min() and values.max() <= limits.max):
        raise UserError(f"{what} holds integers beyond int32")
    return values.astype(np.int32)


def _padded(lists: Sequence[list[Any]], what: str) -> np.ndarray:
    """Return lists of integers as one array, -1 at the end of shorter ones.

    Raises:
      UserError: One holds something else.
    """
    width = max(len(x) for x in lists if isinstance(x, list))
    padded = np.full((len(lists), width), -1, np.int64)
    for row, entries in enumerate(lists):
        whole = isinstance(entries, list) and all(type(x) is int for x in entries)
        if not whole or any(abs(x) >= 2**62 for x in entries):
            raise UserError(f"{what}: entry {row} must be a list of integers")
        padded[row, : len(entries)] = entries
    return padded


def _ids(values: np.ndarray, what: str) -> np.ndarray:
    """Return the ids of strings.

    Raises:
      UserError: Two have one id.
    """
    from losses.core.columns import name_id  # imports jax

    names, which = np.unique(values, return_inverse=True)
    ids = np.array([name_id(str(name)) for name in names], np.int32)
    by_id: dict[int, str] = {}
    for name, number in zip(names.tolist(), ids.tolist(), strict=True):
        if other := by_id.get(number):
            raise UserError(f"{what}: {other!r} and {name!r} have one id; rename one")
        by_id[number] = name
    return ids[which]


def _order(keys: Any, count: int, path: Path, key: str) -> np.ndarray | None:
    """Return the number of the row or document of each entry; None if in order.

    Raises:
      UserError: They are not each number below `count`, once.
    """
    if keys is None:
        return None
    numbers = _typed(keys, f"{path}: {key!r}")
    if numbers.dtype != np.int32 or not np.array_equal(
        np.sort(numbers), np.arange(count)
    ):
        raise UserError(
            f"{path}: {key!r} must hold each number from 0 to {count - 1} once"
        )
    return numbers


def _placed(values: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    if order is None:
        return values
    placed = np.empty_like(values)
    placed[order] = values
    return placed
