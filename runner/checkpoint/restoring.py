"""Arrays of a checkpoint, bit for bit, in the shardings asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from runner.checkpoint import tree_paths
from runner.checkpoint.manifest import Leaf


def restore_tree(
    path: Path,
    abstract: Any,
    *,
    saved: Mapping[str, Leaf],
    where: str,
    checkpointer: ocp.AsyncCheckpointer,
) -> Any:
    """Return the whole tree of a checkpoint.

    Args:
      path: directory of the checkpoint.
      abstract: tree of `jax.ShapeDtypeStruct` with shardings, of any mesh.
      saved: the leaves that it holds.
      where: names it in errors.
      checkpointer: the one that saves.

    Raises:
      UserError: a leaf is absent, unknown, or of another shape or dtype than asked for.
    """
    target = tree_paths.by_path(abstract)
    tree_paths.compare(saved, tree_paths.described(target), where=where, whole=True)
    restored = checkpointer.restore(
        path, args=ocp.args.StandardRestore(_request(target))
    )
    return _filled(abstract, target, restored)


def restore_leaves(
    path: Path, abstract: Any, *, saved: Mapping[str, Leaf], where: str
) -> Any:
    """Return the leaves in `abstract` alone; no other is read.

    Args:
      path: as in `restore_tree`.
      abstract: as in `restore_tree`.
      saved: as in `restore_tree`.
      where: as in `restore_tree`.

    Raises:
      UserError: as `restore_tree`, but for leaves that are not asked for.
    """
    target = tree_paths.by_path(abstract)
    tree_paths.compare(saved, tree_paths.described(target), where=where, whole=False)
    request = _request(target)
    restored = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
        path,
        args=ocp.args.PyTreeRestore(
            request,
            restore_args=ocp.checkpoint_utils.construct_restore_args(request),
            partial_restore=True,
        ),
    )
    return _filled(abstract, target, restored)


def _request(target: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    return {p: tree_paths.placed(x) for p, x in tree_paths.not_empty(target).items()}


def _filled(abstract: Any, target: Mapping[str, Any], restored: Any) -> Any:
    """Return the tree of `abstract`, of what was restored and of what is empty."""
    return jax.tree.unflatten(
        jax.tree.structure(abstract),
        [
            restored[path] if leaf.size else tree_paths.empty(leaf)
            for path, leaf in target.items()
        ],
    )
