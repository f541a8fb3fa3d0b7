"""Tensors of a file that hold several of those that families are described by.

A rule stands for tensors by the end of their names. `cut` replaces what is in a file by
what the names of a family expect; `writing.joining` is the other way.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.pretrained.tensors import mxfp4, separate
from models.pretrained.tensors.mxfp4 import Packed
from models.pretrained.tensors.separate import Separate

Read = Callable[[], np.ndarray]
Fields = Mapping[str, Any]


def _one_group(fields: Fields) -> int:
    """Return 1: each part stands in one piece."""
    del fields
    return 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fusion:
    """One tensor in place of several, along an axis.

    Attributes:
      whole: end of its name.
      parts: ends of the names of the others, in their order along the axis.
      shares: sizes of the parts along the axis, or numbers that are as large to one
        another, of a model's fields.
      groups: how often all parts follow one another, each with its share; None is as
        often as a part is long: they alternate.
      axis: of the file's tensor.
    """

    whole: str
    parts: tuple[str, ...]
    shares: Callable[[Fields], tuple[int, ...]]
    groups: Callable[[Fields], int] | None = _one_group
    axis: int = 0

    def cut(self, read: Read, name: str, index: int, fields: Fields) -> np.ndarray:
        """Return part `index` of the tensor `name`.

        Raises:
          ValueError: the tensor cannot be divided so.
        """
        values = np.moveaxis(read(), self.axis, 0)
        shares = self.shares(fields)
        total = sum(shares)
        groups = self.groups(fields) if self.groups else len(values) // total
        if groups < 1 or len(values) % (groups * total):
            raise ValueError(
                f"{name!r} must be divisible into {len(shares)} parts of {shares} to "
                f"one another, got {len(values)}"
            )
        unit = len(values) // (groups * total)
        start = sum(shares[:index]) * unit
        grouped = values.reshape(groups, -1, *values.shape[1:])
        part = grouped[:, start : start + shares[index] * unit]
        return np.moveaxis(part.reshape(-1, *values.shape[1:]), 0, self.axis)

    def join(self, parts: Sequence[np.ndarray], fields: Fields) -> np.ndarray:
        """Return the tensor that holds all parts."""
        arrays = [np.moveaxis(part, self.axis, 0) for part in parts]
        groups = self.groups(fields) if self.groups else len(arrays[0])
        grouped = [a.reshape(groups, -1, *a.shape[1:]) for a in arrays]
        joined = np.concatenate(grouped, axis=1).reshape(-1, *arrays[0].shape[1:])
        return np.moveaxis(joined, 0, self.axis)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transposed:
    """A matrix `[inputs outputs]` in the file.

    Attributes:
      whole: end of its name.
    """

    whole: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prefixed:
    """Names that older files have without a prefix.

    Attributes:
      prefix: of all.
      unless: a tensor of that name is there.
    """

    prefix: str
    unless: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vector:
    """A matrix `[1 inputs]` that is a vector in the file.

    Attributes:
      whole: end of its name.
    """

    whole: str


Rule = Fusion | Transposed | Prefixed | Vector | Packed | Separate


def cut(
    tensors: Mapping[str, Read],
    dtypes: Mapping[str, np.dtype],
    rules: Sequence[Rule],
    fields: Fields,
) -> tuple[dict[str, Read], dict[str, np.dtype]]:
    """Return what reads each tensor that a family expects, and their types.

    Args:
      tensors: of the file, by name.
      dtypes: in which they are read.
      rules: in the order in which they are applied.
      fields: of the model.
    """
    tensors, dtypes = dict(tensors), dict(dtypes)
    for rule in rules:
        if isinstance(rule, Prefixed):
            if rule.unless not in tensors:
                tensors = {rule.prefix + name: read for name, read in tensors.items()}
                dtypes = {rule.prefix + name: kind for name, kind in dtypes.items()}
            continue
        if isinstance(rule, Packed):
            tensors, dtypes = mxfp4.unpack(tensors, dtypes, rule)
            continue
        if isinstance(rule, Separate):
            tensors, dtypes = separate.join(tensors, dtypes, rule)
            continue
        for name in [name for name in tensors if name.endswith(rule.whole)]:
            read, dtype = tensors.pop(name), dtypes.pop(name)
            if not isinstance(rule, Fusion):
                change = _swapped if isinstance(rule, Transposed) else _as_row
                tensors[name] = functools.partial(change, read)
                dtypes[name] = dtype
                continue
            for index, part in enumerate(rule.parts):
                to = name.removesuffix(rule.whole) + part
                tensors[to] = functools.partial(rule.cut, read, name, index, fields)
                dtypes[to] = dtype
    return tensors, dtypes


def is_part(name: str, rules: Sequence[Rule]) -> bool:
    """Return true for the name of a tensor that is only part of one in a file."""
    return any(isinstance(r, Fusion) and name.endswith(r.parts) for r in rules)


def _swapped(read: Read) -> np.ndarray:
    return np.swapaxes(read(), -1, -2)


def _as_row(read: Read) -> np.ndarray:
    return read().reshape(1, -1)


def heads(fields: Fields) -> tuple[int, ...]:
    """Return the shares of queries, keys and values."""
    count = fields["num_heads"]
    of_keys = fields["num_kv_heads"] or count
    return count, of_keys, of_keys


def halves(fields: Fields) -> tuple[int, ...]:
    """Return equal shares of two."""
    del fields
    return 1, 1


def thirds(fields: Fields) -> tuple[int, ...]:
    """Return equal shares of three."""
    del fields
    return 1, 1, 1
