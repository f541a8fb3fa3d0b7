"""Leaves of a tree by path, as checkpoints name, compare and place them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from runner.checkpoint.manifest import Leaf
from runner.errors import UserError, nearest


def by_path(tree: Any) -> dict[str, Any]:
    """Leaves by path, in tree order: `{"params/student/head": array}`.

    Raises:
      ValueError: two leaves share a path (a key holds a `/`).
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in paths
    }
    if len(named) != len(paths):
        raise ValueError("two leaves share one path; a key must not hold '/'")
    return named


def described(leaves: Mapping[str, Any]) -> dict[str, Leaf]:
    """Shape and dtype of every leaf."""
    return {
        path: Leaf(shape=tuple(leaf.shape), dtype=str(leaf.dtype))
        for path, leaf in leaves.items()
    }


def not_empty(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return the non-empty leaves (orbax rejects size-0 arrays)."""
    return {path: leaf for path, leaf in leaves.items() if leaf.size}


def placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """With no sharding, on the first device, never as it lay when it was saved."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def empty(leaf: Any) -> jax.Array:
    """The one array of a shape of size zero."""
    return jnp.zeros(leaf.shape, leaf.dtype, device=placed(leaf).sharding)


def compare(
    saved: Mapping[str, Leaf], target: Mapping[str, Leaf], *, where: str, whole: bool
) -> None:
    """Refuse a tree other than the saved one, or than a part of it.

    Raises:
      UserError: `where`, and the first leaf that is absent, unknown or another.
    """
    for path, leaf in target.items():
        if path not in saved:
            raise UserError(f"{where} has no '{path}'{nearest(path, saved)}")
        if leaf != saved[path]:
            raise UserError(
                f"{where}: '{path}' is {saved[path]}, wanted {leaf}"
                f"{_was_narrow(path, saved[path], leaf)}"
            )
    unknown = sorted(saved.keys() - target.keys())
    if whole and unknown:
        raise UserError(f"{where} holds '{unknown[0]}', which was not asked for")


def _was_narrow(path: str, saved: Leaf, wanted: Leaf) -> str:
    """Explain state that older versions kept in the dtype of the parameters.

    It is not widened: an optimiser's constants stand in its state, and were rounded
    with it.
    """
    narrow = saved.dtype in ("bfloat16", "float16") and wanted.dtype == "float32"
    if not narrow or path.partition("/")[0] not in ("opt_state", "teacher"):
        return ""
    return (
        f"; an older version kept it as {saved.dtype}, where constants are rounded too "
        "(b2 = 0.999 is 1): such a run cannot go on, start it in a new work directory"
    )
