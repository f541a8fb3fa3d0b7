"""The table of parameters: name, shape, dtype, size, sharding, mean and deviation."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview

from runner import atomic_files


@dataclasses.dataclass(frozen=True)
class _Row:
    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    sharding: str
    mean: float
    std: float


def parameter_table(parameters: Mapping[str, Any]) -> str:
    """Return a table of a pure dictionary of arrays, and its total.

    CLU's own overview sorts layer 10 before layer 2, prints one-device shardings in
    full and sums bfloat16 in bfloat16; its table is used, with our rows.
    """
    leaves = sorted(_flatten(parameters).items(), key=lambda item: _natural(item[0]))
    moments = _moments([value for _, value in leaves])
    rows = [
        _Row(
            name=name,
            shape=value.shape,
            dtype=str(value.dtype),
            size=value.size,
            sharding=_sharding(value),
            mean=float(mean),
            std=float(std),
        )
        for (name, value), (mean, std) in zip(leaves, moments, strict=True)
    ]
    columns = [field.name for field in dataclasses.fields(_Row)]
    table = parameter_overview.make_table(rows, column_names=columns)
    size = sum(row.size for row in rows)
    num_bytes = sum(value.nbytes for _, value in leaves)
    return f"{table}\nTotal: {size:,} parameters, {num_bytes:,} bytes"


def write_parameters(parameters: Mapping[str, Any], path: str | Path) -> str:
    """Write the table, from the first process; every process has to call it."""
    table = parameter_table(parameters)
    if jax.process_index() == 0:
        atomic_files.write_atomic(Path(path), table + "\n")
    return table


def _moments(arrays: list[jax.Array]) -> list[tuple[Any, Any]]:
    """Return mean and deviation of each.

    Of what a CPU holds NumPy computes them: XLA would compile a loop for each shape.
    """
    if all(_on_cpu(array) for array in arrays):
        wide = (np.asarray(array).astype(np.float32, copy=False) for array in arrays)
        return [(array.mean(), array.std()) for array in wide]
    return jax.device_get(_moments_on_devices(arrays))


@jax.jit
def _moments_on_devices(arrays: list[jax.Array]) -> list[tuple[jax.Array, jax.Array]]:
    wide = [array.astype(jnp.float32) for array in arrays]
    return [(jnp.mean(array), jnp.std(array)) for array in wide]


def _on_cpu(array: jax.Array) -> bool:
    platforms = {device.platform for device in array.devices()}
    return array.is_fully_addressable and platforms == {"cpu"}


def _flatten(tree: Any, prefix: str = "") -> dict[str, jax.Array]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    leaves = {}
    for key, value in tree.items():
        leaves |= _flatten(value, f"{prefix}/{key}" if prefix else str(key))
    return leaves


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `layers/2` before `layers/10`."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _sharding(value: jax.Array) -> str:
    if not isinstance(value, jax.Array) or value.is_fully_replicated:
        return ""
    spec = getattr(value.sharding, "spec", None)
    if spec is None:
        return str(value.sharding)
    return ", ".join(_axis(axis) for axis in spec)


def _axis(axis: Any) -> str:
    return "-" if axis is None else axis if isinstance(axis, str) else "+".join(axis)
