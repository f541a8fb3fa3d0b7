"""One leaf of nested dictionaries, read and replaced."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Shaped

Tree = Any


def leaf(tree: Mapping[str, Tree], path: tuple[str, ...]) -> Shaped[Array, "..."]:
    """Return the leaf at this path."""
    for key in path:
        tree = tree[key]
    return tree  # pyright: ignore[reportReturnType] - a leaf, at the end of the path


def with_leaf(tree: Tree, path: tuple[str, ...], value: Shaped[Array, "..."]) -> Tree:
    """Return `tree` with another leaf; the nodes on the way are copied."""
    if not path:
        return value
    return {**tree, path[0]: with_leaf(tree[path[0]], path[1:], value)}
