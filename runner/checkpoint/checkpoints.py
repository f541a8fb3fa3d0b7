"""Checkpoints: saved in the background, sealed when on the disk, checked before use.

Orbax copies the arrays to the host, writes them into a temporary directory and renames
it. A save counts only after that, once every file is synced, digested and listed in a
manifest (`runner/checkpoint/manifest.py`). A directory without a good manifest is never
restored.

On several processes every method is a collective call on one shared directory: orbax
ends a save with a barrier, after which process 0 alone seals, checks and deletes.
"""

import concurrent.futures
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from runner.checkpoint import manifest, tree_paths
from runner.checkpoint.directory import CheckpointDirectory, RejectedCheckpoint
from runner.checkpoint.restoring import restore_leaves, restore_tree
from runner.errors import UserError

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, `<directory>/<step>/`."""

    def __init__(self, directory: Path | str, *, keep: int):
        """Touch nothing on disk; directories are made by the first `save`.

        Args:
          directory: That of this run's checkpoints; only its owner may `save`.
          keep: Number of verified ones that stay; older ones go once a newer is sealed,
            but for those that one which stays names as the best.
        """
        self._directory = CheckpointDirectory(directory, keep=keep)
        self._settled: set[int] = set()
        self._sealing: concurrent.futures.Future[None] | None = None

    def save(
        self, step: int, tree: Any, *, memories: Mapping[str, Any] | None = None
    ) -> None:
        """Save in the background; on return the arrays may be donated.

        Blocks for the copy to the host, and for the save before it where that is not
        done. A step that this object has saved or restored is not saved again.

        Args:
          step: As in the name of the directory.
          tree: Of `jax.Array`s, at least one of them not empty.
          memories: JSON that belongs to it, read again by `memories`.

        Raises:
          UserError: This or the previous save could not be written, and why.
        """
        self.wait()
        if step in self._settled:
            return
        named = tree_paths.by_path(tree)
        if jax.process_index() == 0:
            self._directory.prepare(sum(leaf.nbytes for leaf in named.values()))
        with self._directory.write_errors(step):
            self._orbax.save(
                self._directory.at(step),
                args=ocp.args.StandardSave(tree_paths.not_empty(named)),
                force=True,
            )
        described = tree_paths.described(named)
        self._sealing = self._background.submit(
            self._seal, step, described, memories or {}
        )

    def wait(self) -> None:
        """Wait until the last save is sealed.

        Raises:
          UserError: It could not be written, and why.
        """
        if self._sealing is not None:
            sealing, self._sealing = self._sealing, None
            sealing.result()

    @property
    def rejected(self) -> list[RejectedCheckpoint]:
        """Checkpoints that `latest_verified` passed over, newest first."""
        return self._directory.rejected

    def check(self) -> None:
        """Raise the errors of `wait` without waiting: for every step of a loop."""
        if self._sealing is not None and self._sealing.done():
            self.wait()

    def latest_verified(self) -> int | None:
        """Return the newest step whose every file is as it was sealed, or None.

        Newer ones that are damaged are logged and listed in `rejected`.
        """
        self.wait()
        latest = self._directory.check_newest() if jax.process_index() == 0 else None
        if jax.process_count() > 1:
            number = jnp.int32(-1 if latest is None else latest)
            latest = int(multihost_utils.broadcast_one_to_all(number))
            return None if latest < 0 else latest
        return latest

    def refuse_if_all_damaged(self) -> None:
        """Refuse to begin at step 0 where `latest_verified` found damage alone.

        Raises:
          UserError: in the first process with what is wrong, and how to begin anew; in
            the others with that it is.
        """
        refusal = None
        if jax.process_index() == 0:
            try:
                self._directory.refuse_if_all_damaged()
            except UserError as error:
                refusal = error
        if jax.process_count() > 1:
            of_first = multihost_utils.broadcast_one_to_all(
                jnp.int32(refusal is not None)
            )
            if of_first and refusal is None:
                refusal = UserError(
                    f"process {jax.process_index()}: no checkpoint is whole, as the "
                    "first process says"
                )
        if refusal is not None:
            raise refusal

    def restore(self, step: int, abstract: Any) -> Any:
        """Return the tree saved at `step`, bit for bit, sharded as `abstract`.

        Args:
          step: One that `latest_verified` named, or any other, which is then checked.
          abstract: Tree of `jax.ShapeDtypeStruct` with shardings, of any mesh.

        Raises:
          UserError: The checkpoint is damaged, or a leaf is absent, unknown, or of
            another shape or dtype than asked for.
        """
        tree = restore_tree(
            self._directory.at(step),
            abstract,
            saved=self._saved(step),
            where=f"checkpoint of step {step}",
            checkpointer=self._orbax,
        )
        self._settled.add(step)
        return tree

    def restore_part(self, step: int, abstract: Any) -> Any:
        """Restore as `restore`, of the leaves in `abstract` alone; no other is read.

        Raises:
          UserError: As `restore`, but for leaves that are not asked for.
        """
        return restore_leaves(
            self._directory.at(step),
            abstract,
            saved=self._saved(step),
            where=f"checkpoint of step {step}",
        )

    def memories(self, step: int) -> Mapping[str, Any]:
        """Return the JSON that was saved beside the tree; empty for older checkpoints.

        Raises:
          UserError: The checkpoint is damaged.
        """
        self.wait()
        return self._directory.checked_manifest(step).memories

    def close(self) -> None:
        """Wait for the last save, then let go of the threads.

        Raises:
          UserError: The last save could not be written, and why.
        """
        try:
            self.wait()
        finally:
            if "_background" in vars(self):
                self._background.shutdown()
            if "_orbax" in vars(self):
                self._orbax.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if error is None:
            return self.close()
        try:
            self.close()
        except Exception as failure:  # the error under way is the one to show
            log.error("%s", failure)

    @functools.cached_property
    def _orbax(self) -> ocp.AsyncCheckpointer:
        # A directory that cannot be made is an error now, not a time-out in minutes.
        return ocp.AsyncCheckpointer(
            ocp.StandardCheckpointHandler(),
            async_options=ocp.options.AsyncOptions(
                create_directories_asynchronously=False
            ),
        )

    @functools.cached_property
    def _background(self) -> concurrent.futures.ThreadPoolExecutor:
        return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="seal")

    def _saved(self, step: int) -> Mapping[str, manifest.Leaf]:
        self.wait()
        return self._directory.checked_manifest(step).leaves

    def _seal(
        self,
        step: int,
        described: dict[str, manifest.Leaf],
        memories: Mapping[str, Any],
    ) -> None:
        with self._directory.write_errors(step):
            self._orbax.wait_until_finished()
            if jax.process_index() == 0:
                self._directory.seal(step, described, memories)
            self._settled.add(step)
