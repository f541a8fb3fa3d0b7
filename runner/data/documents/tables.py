"""Parquet files and the folders of `datasets` as records and documents."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from runner.data.documents import arrow
from runner.data.documents.records import Record, Records
from runner.data.paths import resolve
from runner.errors import UserError, nearest
from runner.files import confined, form

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Parquet(Records):
    """Rows of Parquet files, one document each.

    Attributes:
      files: Paths, directories and globs, as in `TextFiles`.
      column: Its strings are the documents.
    """

    files: Sequence[str]
    column: str = "text"

    def check(self) -> None:
        resolve(self.files)

    @property
    def text_column(self) -> str:
        return self.column

    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        return _records(resolve(self.files), columns, self.column)


@dataclasses.dataclass(frozen=True)
class HuggingFaceDataset(Records):
    """Rows of a folder that `save_to_disk` of `datasets` wrote, one document each.

    Attributes:
      folder: Path of the folder.
      split: Name of the split; "" where the folder holds no splits, or one.
      column: Its strings are the documents.
    """

    folder: str
    split: str = ""
    column: str = "text"

    def check(self) -> None:
        self._files()

    @property
    def text_column(self) -> str:
        return self.column

    def records(self, columns: Sequence[str] = ()) -> Iterator[Record]:
        return _records(self._files(), columns, self.column)

    def describe(self) -> Mapping[str, str]:
        return {"split": self.split} if self.split else {}

    def _files(self) -> list[tuple[str, Path]]:
        """Return (name, path) of the Arrow files of the split, in order."""
        folder = _split_folder(Path(self.folder).expanduser(), self.split)
        state = folder / "state.json"
        if not state.is_file():
            raise UserError(
                f"{folder} holds no {state.name}: no folder of datasets' save_to_disk"
                "\n(of files of Parquet: data.Parquet(files=[...]))"
            )
        listed = [entry.filename for entry in _read(_State, state)._data_files]
        files = [(name, _below(folder, name, state)) for name in listed]
        missing = [name for name, path in files if not path.is_file()]
        if missing or not files:
            reason = f"lacks {missing[0]}" if missing else "names no files"
            raise UserError(f"{folder} {reason}")
        return files


def _records(
    files: Sequence[tuple[str, Path]], columns: Sequence[str], text_column: str
) -> Iterator[Record]:
    if tuple(columns) == (text_column,):
        arrow.require_column(text_column, files)
    for name, path in files:
        yield from arrow.records(name, path, columns)


def _split_folder(folder: Path, split: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"no such directory: {folder}")
    listed = folder / "dataset_dict.json"
    splits = _read(_Splits, listed).splits
    if not splits and split:
        raise UserError(f"{folder} holds no splits; leave split={split!r} out")
    if not splits:
        return folder
    name = split or (splits[0] if len(splits) == 1 else "")
    if name not in splits:
        raise UserError(f"{folder} has no split {name!r}{nearest(name, splits)}")
    return _below(folder, name, listed)


@dataclasses.dataclass(frozen=True)
class _File:
    """An Arrow file of a split."""

    filename: str


@dataclasses.dataclass(frozen=True)
class _State:
    """`state.json` of a split."""

    _data_files: Sequence[_File] = ()


@dataclasses.dataclass(frozen=True)
class _Splits:
    """`dataset_dict.json` of a folder of splits."""

    splits: Sequence[str] = ()


def _read(kind: type[T], file: Path) -> T:
    with form.of_file(file):
        return form.read(kind, file)
    return kind()


def _below(folder: Path, name: str, listed: Path) -> Path:
    """Return the path of what a stranger's list names: below its folder alone."""
    try:
        return confined.inside(folder, name)
    except ValueError as error:
        raise UserError(f"{listed}: {error}") from None
