"""Files read as bytes, decompressed by their first bytes, not by their names."""

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from runner.data.documents.extras import require
from runner.errors import UserError

_CHUNK = 1 << 17


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading: plain, or compressed by gzip, zstd, bzip2 or xz.

    Raises:
      UserError: It cannot be read, is cut short or damaged, or is compressed by zstd
        where the library zstandard is not installed.
    """
    try:
        with path.open("rb") as file:
            start = file.peek(8)
            for magic, decompressed in _FORMS.items():
                if start.startswith(magic):
                    with decompressed(file, path) as content:
                        yield cast(io.BufferedReader, content)
                    return
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or cut short: {error}") from error
    except OSError as error:
        reason = error.strerror or f"damaged or cut short: {error}"
        raise UserError(f"cannot read {path}: {reason}") from error


def _zstd(file: IO[bytes], path: Path) -> io.BufferedReader:
    frames = _ZstdFrames(file, require("zstandard", path=path))
    return io.BufferedReader(frames, buffer_size=_CHUNK)


class _ZstdFrames(io.RawIOBase):
    """Content of the zstd frames of a file.

    The library's own stream ends without an error where a file is cut short.
    """

    def __init__(self, file: IO[bytes], library: Any) -> None:
        self._file, self._library = file, library
        self._frame: Any = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._file.read(_CHUNK)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the last zstd frame has no end")
                return 0
            self._decompress()
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size

    def _decompress(self) -> None:
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        try:
            self._output = self._frame.decompress(self._input)
        except self._library.ZstdError as error:
            raise EOFError(error) from error
        self._input = b""
        if self._frame.eof:
            self._input, self._frame = self._frame.unused_data, None


_FORMS: dict[bytes, Callable[[IO[bytes], Path], IO[bytes]]] = {
    b"\x1f\x8b": lambda file, _: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": lambda file, _: bz2.BZ2File(file),
    b"\xfd7zXZ\x00": lambda file, _: lzma.LZMAFile(file),  # noqa: SIM115 - by its user
}
