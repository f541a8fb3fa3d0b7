"""Files of one JSON object a line, with the line of whatever is wrong."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from runner.exchange.formats.scored import BadScores
from runner.files import form

T = TypeVar("T")


def files_of(source: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a source in the order of their names; itself if it is one.

    Raises:
      BadScores: There are none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise BadScores(f"no such file or folder: {source}")
    files = sorted(x for x in source.iterdir() if x.name.endswith(suffixes))
    if not files:
        raise BadScores(f"{source} holds no file *{' or *'.join(suffixes)}")
    return files


def read(source: Path, kind: type[T]) -> Iterator[tuple[str, T]]:
    """Yield the place and the object of each line that is not empty.

    Raises:
      BadScores: A line is not JSON, or of another form.
    """
    for place, value in values(source):
        with at(place):
            yield place, form.parse(kind, value)


def values(source: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each line that is not empty.

    Raises:
      BadScores: A line is not JSON.
    """
    for path in files_of(source, (".jsonl", ".json", ".ndjson")):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    place = f"{path}, line {number}"
                    with at(place):
                        value = form.load(line)
                    yield place, value


@contextlib.contextmanager
def at(place: str) -> Iterator[None]:
    """Put the place before whatever is malformed in the block.

    Raises:
      BadScores: Something is.
    """
    try:
        yield
    except form.Malformed as error:
        raise BadScores(f"{place}: {error}") from None


def peek(stream: Iterator[T], describe: Callable[[T], str]) -> tuple[str, Iterator[T]]:
    """Return what `describe` says of the first item, and the whole stream again."""
    first = next(stream, None)
    if first is None:
        return "", iter(())

    def whole() -> Iterator[T]:
        yield first
        yield from stream

    return describe(first), whole()
