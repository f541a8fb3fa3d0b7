"""Images and labels in idx files, the format of MNIST and the data sets after it.

    0  0  type  axes | the length of each axis, big-endian uint32 | the numbers

Source: LeCun, Cortes & Burges 1998, the MNIST database, "File formats".
"""

import dataclasses
import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from runner.data.images.images import Images
from runner.data.labels import Classes
from runner.data.source import DataSource
from runner.errors import UserError, nearest

_UINT8 = 0x08  # type code; the only type these files have
_PREFIX = {"train": "train", "held_out": "t10k"}
_DIGITS = tuple("0123456789")


@dataclasses.dataclass(frozen=True)
class IdxFolder:
    """A directory of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`.

    Each file is plain or compressed (`.gz`). Training and held-out data share one node,
    so that `--fdl.train_data.folder.path=DIR` reaches both.

    Attributes:
      path: Of the directory.
      classes: Names of the labels 0, 1, ...
    """

    path: str
    classes: Sequence[str] = _DIGITS

    def file(self, name: str) -> Path:
        """Return the path of the file `name`, or of `name.gz`.

        Raises:
          UserError: There is neither.
        """
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise UserError(f"no such directory: {self.path}; it is to hold {name}.gz")
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
        names = [path.name for path in folder.iterdir()]
        raise UserError(
            f"no such file: {folder / name}, nor with .gz{nearest(name, names)}"
        )


@dataclasses.dataclass(frozen=True)
class IdxImages(DataSource):
    """Images of a folder of idx files, unsigned bytes `[h w 1]`, and their labels.

    Attributes:
      folder: Of the files.
      split: "train", or "held_out" for the files that are called `t10k-...`.

    Raises:
      UserError: There is no such split.
    """

    folder: IdxFolder
    split: Literal["train", "held_out"] = "train"

    def __post_init__(self) -> None:
        if self.split not in _PREFIX:
            raise UserError(
                f"split must be one of {', '.join(_PREFIX)}, got {self.split!r}"
                f"{nearest(self.split, _PREFIX)}"
            )

    def check(self) -> None:
        self._files()

    def load(self, *, cache: str = "") -> Images:
        del cache
        images, labels = self._files()
        try:
            return Images(
                images=read(images, axes=3)[..., None],
                labels=read(labels, axes=1).astype(np.int32),
                vocabulary=Classes(list(self.folder.classes)),
                description={"split": self.split},
            )
        except UserError as error:
            if str(error).startswith(str(images.parent)):
                raise
            raise UserError(f"{images.parent}: {error}") from None

    def _files(self) -> tuple[Path, Path]:
        prefix = _PREFIX[self.split]
        return (
            self.folder.file(f"{prefix}-images-idx3-ubyte"),
            self.folder.file(f"{prefix}-labels-idx1-ubyte"),
        )


def read(path: Path, *, axes: int) -> np.ndarray:
    """Return the array of an idx file of unsigned bytes, `[n]` or `[n h w]`.

    Args:
      path: The file, plain or compressed (`.gz`).
      axes: Number of axes that the array must have.

    Raises:
      UserError: It is another kind of file, or not as long as its header says.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is no whole gzip file"
        raise UserError(f"{path}: cannot be read: {reason}") from error
    # Magic: two zeros, the type of an element, the number of axes.
    magic = bytes([0, 0, _UINT8, axes])
    if content[:4] != magic:
        raise UserError(
            f"{path}: is no idx file of bytes with {axes} axes: it begins with "
            f"0x{content[:4].hex()}, not 0x{magic.hex()}"
        )
    # Sizes, big-endian, which must account for every byte.
    header = 4 + 4 * axes
    if len(content) < header:
        raise UserError(f"{path}: is cut short in its header, {len(content)} bytes")
    shape = struct.unpack(f">{axes}I", content[4:header])
    size = header + math.prod(shape)
    if len(content) != size:
        raise UserError(
            f"{path}: holds {len(content):,} bytes; its header, {shape}, says {size:,}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
