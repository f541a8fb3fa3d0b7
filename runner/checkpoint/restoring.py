"""Arrays of a checkpoint, bit for bit, in the shardings asked for.

That its files are as they were sealed does not say that they are orbax's: who sealed
them may be a stranger.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from runner.checkpoint import tree_paths
from runner.checkpoint.manifest import Leaf
from runner.errors import UserError

_LONGEST = 200  # characters of a reason


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
      UserError: a leaf is absent, unknown, or of another shape or dtype than asked for;
        or the files are not what orbax writes.
    """
    target = tree_paths.by_path(abstract)
    tree_paths.compare(saved, tree_paths.described(target), where=where, whole=True)
    with _malformed_refused(where):
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
    with _malformed_refused(where):
        restored = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
            path,
            args=ocp.args.PyTreeRestore(
                request,
                restore_args=ocp.checkpoint_utils.construct_restore_args(request),
                partial_restore=True,
            ),
        )
        return _filled(abstract, target, restored)


@contextlib.contextmanager
def _malformed_refused(where: str) -> Iterator[None]:
    """Refuse, in a line, files that orbax or tensorstore cannot make sense of.

    They raise whatever comes: KeyError, TypeError, RecursionError, ValueError. Reads
    that are under way by then fail unheard, and would print a traceback each.

    Raises:
      UserError: naming the checkpoint.
    """
    hook = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if not _is_late_read(unraisable.exc_value):
            hook(unraisable)

    sys.unraisablehook = show  # left in place by an error: some reads end later
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError):  # a device's, another process's
        raise
    except Exception as error:  # of files that orbax and tensorstore did not write
        # Nor do the coroutines that orbax drops then deserve a line each.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:_LONGEST]
        raise UserError(f"{where}: its files are not well formed ({reason})") from error
    sys.unraisablehook = hook


def _is_late_read(error: BaseException | None) -> bool:
    of_loop = "Event loop is closed", "Encountered error while reading array"
    return str(error).startswith(of_loop)


def _request(target: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    return {p: tree_paths.placed(x) for p, x in tree_paths.not_empty(target).items()}


def _filled(abstract: Any, target: Mapping[str, Any], restored: Any) -> Any:
    """Return the tree of `abstract`, of what was restored and of what is empty.

    Raises:
      ValueError: a leaf has another form than was asked for.
    """
    for path, leaf in tree_paths.not_empty(target).items():
        got = restored[path]
        if (got.shape, got.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(f"{path} is {got.dtype}{list(got.shape)}")
    return jax.tree.unflatten(
        jax.tree.structure(abstract),
        [
            restored[path] if leaf.size else tree_paths.empty(leaf)
            for path, leaf in target.items()
        ],
    )
