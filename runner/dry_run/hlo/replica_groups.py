"""Mesh axes along which the devices of a collective's group lie."""

import re
from collections.abc import Mapping

import numpy as np

_LISTED = re.compile(r"replica_groups=(\{\{.*?\}\}|\{\})")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=@?mesh\[([^\]]*)\]"
    r"(?:, device_ids=\((\[[^)]*\)?)\))? \{([^}]*)\}"
)
_PAIRS = re.compile(r"source_target_pairs=(\{\{.*?\}\}|\{\})")


def groups(attributes: str, devices: int) -> np.ndarray | None:
    """`[groups, size]` numbers of devices, from any of the forms that HLO has.

    `{{0,1},{2,3}}`; `[2,2]<=[2,2]T(1,0)`, an iota reshaped, transposed and reshaped;
    `mesh['a'=2,'b'=2] {'b'}`, axes of a mesh of the compiler's own. Of a permutation,
    pairs of sender and receiver. None where there is none of them.
    """
    if match := _PAIRS.search(attributes) or _LISTED.search(attributes):
        listed = [[int(n) for n in g.split(",")] for g in _braced(match[1])]
        whole = np.arange(devices)[None]
        return np.array(listed, int) if listed else whole
    if match := _IOTA.search(attributes):
        count, size = _numbers(match[1])
        return _iota(match[2], match[3]).reshape(count, size)
    if match := _MESH.search(attributes):
        return _of_mesh(*match.groups())
    return None


def axes(members: np.ndarray, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The mesh axes along which devices of a group differ.

    Devices are numbered along the mesh with its last axis fastest.
    """
    places = np.stack(np.unravel_index(members, tuple(mesh.values())))
    differ = np.any(places != places[..., :1], axis=(1, 2))
    return tuple(name for name, yes in zip(mesh, differ, strict=True) if yes)


def _braced(text: str) -> list[str]:
    return re.findall(r"\{([\d,]+)\}", text)


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _iota(sizes: str, order: str | None) -> np.ndarray:
    shaped = np.arange(np.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return shaped.transpose(_numbers(order)) if order else shaped


def _of_mesh(sizes: str, order: str | None, grouped: str) -> np.ndarray | None:
    lengths = {n: int(s) for n, s in re.findall(r"'([^']+)'=(\d+)", sizes)}
    numbers = np.arange(np.prod(list(lengths.values()), dtype=int))
    if order is not None:
        match = re.fullmatch(r"\[([\d,]+)\](?:<=\[[\d,]+\])?(?:T\(([\d,]+)\))?", order)
        if match is None:
            return None
        numbers = _iota(match[1], match[2]).reshape(-1)
    names = re.findall(r"'([^']+)'(:\(\d+\)\d+)?", grouped)
    if any(part for _, part in names):
        return None
    inside = [list(lengths).index(name) for name, _ in names]
    outside = [i for i in range(len(lengths)) if i not in inside]
    shaped = numbers.reshape(list(lengths.values())).transpose([*outside, *inside])
    size = np.prod([list(lengths.values())[i] for i in inside], dtype=int)
    return shaped.reshape(-1, size)
