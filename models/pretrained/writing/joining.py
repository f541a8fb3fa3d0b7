"""Tensors that a file holds as one: `fusing.cut` the other way."""

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from models.pretrained.tensors import separate
from models.pretrained.tensors.fusing import (
    Fields,
    Fusion,
    Prefixed,
    Rule,
    Transposed,
)
from models.pretrained.tensors.mxfp4 import Packed
from models.pretrained.tensors.separate import Separate
from models.pretrained.writing.tensors import Tensor


def join(
    tensors: Iterable[Tensor], rules: Sequence[Rule], fields: Fields
) -> list[Tensor]:
    """Return the tensors of a file, in the order of the first part of each.

    Args:
      tensors: that a family expects.
      rules: as for `fusing.cut`.
      fields: of the model.
    """
    joined = list(tensors)
    for rule in reversed(rules):
        # transformers 5 writes the prefix; what is written is packed nowhere.
        if isinstance(rule, Prefixed | Packed):
            continue
        before, joined = joined, []
        by_name = {tensor.name: tensor for tensor in before}
        for tensor in before:
            if isinstance(rule, Separate):
                applies = tensor.name.endswith(rule.whole)
                joined += _separated(rule, tensor, fields) if applies else [tensor]
            elif not isinstance(rule, Fusion):
                change = _transposed if isinstance(rule, Transposed) else _as_vector
                applies = tensor.name.endswith(rule.whole)
                joined.append(change(tensor) if applies else tensor)
            elif tensor.name.endswith(rule.parts[0]):
                stem = tensor.name.removesuffix(rule.parts[0])
                parts = [by_name[stem + part] for part in rule.parts]
                joined.append(_joined(rule, stem + rule.whole, parts, fields))
            elif not tensor.name.endswith(rule.parts):
                joined.append(tensor)
    return joined


def _joined(rule: Fusion, name: str, parts: Sequence[Tensor], fields: Fields) -> Tensor:
    def read() -> np.ndarray:
        return rule.join([part.read() for part in parts], fields)

    shape = list(parts[0].shape)
    shape[rule.axis] = sum(part.shape[rule.axis] for part in parts)
    return Tensor(name, parts[0].role, tuple(shape), read)


def _as_vector(tensor: Tensor) -> Tensor:
    def read() -> np.ndarray:
        return tensor.read().reshape(-1)

    return Tensor(tensor.name, tensor.role, tensor.shape[-1:], read)


def _transposed(tensor: Tensor) -> Tensor:
    def read() -> np.ndarray:
        return np.swapaxes(tensor.read(), -1, -2)

    *outer, rows, columns = tensor.shape
    return Tensor(tensor.name, tensor.role, (*outer, columns, rows), read)


def _separated(rule: Separate, tensor: Tensor, fields: Fields) -> list[Tensor]:
    """Return the tensors of keys and of values."""
    heads, latents = fields["num_heads"], fields["latents"]
    stem = tensor.name.removesuffix(rule.whole)

    def read(index: int) -> np.ndarray:
        return separate.cut(tensor.read(), heads, latents.plain_dim)[index]

    return [
        Tensor(
            stem + rule.keys,
            tensor.role,
            (heads, latents.kv_rank, latents.plain_dim),
            functools.partial(read, 0),
        ),
        Tensor(
            stem + rule.values,
            tensor.role,
            (heads, latents.value_dim, latents.kv_rank),
            functools.partial(read, 1),
        ),
    ]
