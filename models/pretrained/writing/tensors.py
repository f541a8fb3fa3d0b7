"""Tensors of a file from the arrays of `models.Transformer`: `layout` the other way."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from models.pretrained import forms
from models.pretrained.forms import Shape
from models.pretrained.tensors import names as names_lib

Change = Callable[[np.ndarray], np.ndarray]
Changes = Mapping[str, tuple[Change, ...]]
_NONE: Changes = {}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a file that is to be written.

    Attributes:
      name: in the file.
      role: the part of a model that it is of, `attention/query`.
      shape: in the file, as NumPy has it.
      read: makes it, of the type of the array that it comes from.
    """

    name: str
    role: str
    shape: Shape
    read: Callable[[], np.ndarray]


def tensors(
    arrays: Mapping[str, Any], names: Mapping[str, str], changes: Changes = _NONE
) -> Iterator[Tensor]:
    """Yield the tensors of a model's arrays, in the order of these.

    Args:
      arrays: by path, `blocks/3/mlp/up`, also stacked; of NumPy or JAX.
      names: of tensors by role.
      changes: of arrays by role, as `folding.fold` has them.

    Raises:
      ValueError: a parameter has no name.
    """
    for path, array in arrays.items():
        for index, (part, shape) in enumerate(
            forms.by_layer(path, array.shape).items()
        ):
            role, layer = forms.role(part)
            name = names_lib.of(names, role, len(shape))
            if not name:
                raise ValueError(f"the format has no tensor for {path}")
            one = array if shape == array.shape else _Item(array, index)
            many = "{expert}" in name
            for expert in range(shape[0] if many else 1):
                yield _tensor(
                    name=name.format(layer=layer, expert=expert),
                    role=role,
                    array=_Item(one, expert) if many else one,
                    shape=shape[1:] if many else shape,
                    changes=changes.get(role, ()),
                )


def _tensor(
    *, name: str, role: str, array: Any, shape: Shape, changes: tuple[Change, ...]
) -> Tensor:
    stored_shape, _, invert = forms.of(role)

    def read() -> np.ndarray:
        values = np.asarray(array)
        for change in changes:
            values = change(values.astype(np.float32))
        return invert(values, shape)

    return Tensor(name, role, stored_shape(shape), read)


class _Item:
    """An item of an array along its first axis, cut out when it is converted."""

    def __init__(self, array: Any, index: int):
        self._array, self._index = array, index

    def __getitem__(self, index: int) -> Any:
        return np.asarray(self)[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del dtype, copy
        return np.asarray(self._array[self._index])
