"""Keys and values of latents, which llama.cpp has in two tensors and folders in one."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

Read = Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Separate:
    """Two tensors in place of one `[heads * (key + value) rank]`, if both are there.

    llama.cpp multiplies queries by the keys' part, so that a cache holds latents.

    Attributes:
      whole: end of the name of the one.
      keys: end of the name of `[heads rank key]`.
      values: end of the name of `[heads value rank]`.
    """

    whole: str
    keys: str
    values: str


def join(
    tensors: Mapping[str, Read], dtypes: Mapping[str, np.dtype], rule: Separate
) -> tuple[dict[str, Read], dict[str, np.dtype]]:
    """Return one tensor for each two of `tensors` that `rule` names."""
    tensors, dtypes = dict(tensors), dict(dtypes)
    for name in [name for name in tensors if name.endswith(rule.keys)]:
        stem = name.removesuffix(rule.keys)
        of_values = stem + rule.values
        if of_values not in tensors:
            raise ValueError(f"{name!r} has no {of_values!r}")
        keys, values = tensors.pop(name), tensors.pop(of_values)
        tensors[stem + rule.whole] = functools.partial(_joined, keys, values, name)
        kinds = {dtypes.pop(name), dtypes.pop(of_values)}
        one = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
        dtypes[stem + rule.whole] = one
    return tensors, dtypes


def _joined(keys: Read, values: Read, name: str) -> np.ndarray:
    key, value = keys(), values()
    if key.ndim != 3 or value.ndim != 3 or key.shape[:2] != value.shape[::2]:
        raise ValueError(
            f"{name!r} must be [heads rank key], and its values [heads value rank], "
            f"got {list(key.shape)} and {list(value.shape)}"
        )
    both = np.concatenate([np.swapaxes(key, 1, 2), value], axis=1)
    return both.reshape(-1, both.shape[-1])


def cut(whole: np.ndarray, heads: int, key_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and values of one tensor, as `Separate` has them."""
    both = whole.reshape(heads, -1, whole.shape[-1])
    return np.swapaxes(both[:, :key_dim], 1, 2), both[:, key_dim:]
