"""Checkpoints: saved in the background, sealed when on the disk, checked before use.

Orbax copies the arrays to the host, writes them into a temporary directory and renames
it. A save counts only after that, once every file is synced, digested and listed in a
manifest (`runner/checkpoint/manifest.py`). A directory without a good manifest is never
restored.

On several processes every method is a collective call on one shared directory: orbax
ends a save with a barrier, after which process 0 alone seals, checks and deletes.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from runner.checkpoint import manifest, tree_paths
from runner.errors import UserError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RejectedCheckpoint:
    """A checkpoint that does not count, and why."""

    step: int
    reason: str


class Checkpoints:
    """The checkpoints of one run, `<directory>/<step>/`.

    Attributes:
      rejected: Checkpoints that `latest_verified` passed over, newest first.
    """

    def __init__(self, directory: Path | str, *, keep: int):
        """Touch nothing on disk; directories are made by the first `save`.

        Args:
          directory: That of this run's checkpoints; only its owner may `save`.
          keep: Number of verified ones that stay; older ones go once a newer is sealed.
        """
        if keep < 1:
            raise UserError(f"checkpoints to keep must be positive, got {keep}")
        self.rejected: list[RejectedCheckpoint] = []
        self._directory = Path(directory).absolute()
        self._keep = keep
        self._verified: dict[int, manifest.Manifest] = {}
        self._settled: set[int] = set()
        self._sealing: concurrent.futures.Future[None] | None = None

    def save(self, step: int, tree: Any) -> None:
        """Save in the background; on return the arrays may be donated.

        Blocks for the copy to the host, and for the save before it where that is not
        done. A step that this object has saved or restored is not saved again.

        Args:
          step: As in the name of the directory.
          tree: Of `jax.Array`s, at least one of them not empty.

        Raises:
          UserError: This or the previous save could not be written, and why.
        """
        self.wait()
        if step in self._settled:
            return
        named = tree_paths.by_path(tree)
        if jax.process_index() == 0:
            self._clean()
            self._require_room(sum(leaf.nbytes for leaf in named.values()))
        with self._named(step):
            self._orbax.save(
                self._at(step),
                args=ocp.args.StandardSave(tree_paths.not_empty(named)),
                force=True,
            )
        described = tree_paths.described(named)
        self._sealing = self._background.submit(self._seal, step, described)

    def wait(self) -> None:
        """Wait until the last save is sealed.

        Raises:
          UserError: It could not be written, and why.
        """
        if self._sealing is not None:
            sealing, self._sealing = self._sealing, None
            sealing.result()

    def check(self) -> None:
        """Raise the errors of `wait` without waiting: for every step of a loop."""
        if self._sealing is not None and self._sealing.done():
            self.wait()

    def latest_verified(self) -> int | None:
        """Return the newest step whose every file is as it was sealed, or None.

        Newer ones that are damaged are logged and listed in `rejected`.
        """
        self.wait()
        latest = -1
        if jax.process_index() == 0:
            latest = self._check_newest()
        if jax.process_count() > 1:
            latest = int(multihost_utils.broadcast_one_to_all(jnp.int32(latest)))
        return None if latest < 0 else latest

    def restore(self, step: int, abstract: Any) -> Any:
        """Return the tree saved at `step`, bit for bit, sharded as `abstract`.

        Args:
          step: One that `latest_verified` named, or any other, which is then checked.
          abstract: Tree of `jax.ShapeDtypeStruct` with shardings, of any mesh.

        Raises:
          UserError: The checkpoint is damaged, or a leaf is absent, unknown, or of
            another shape or dtype than asked for.
        """
        target = tree_paths.by_path(abstract)
        tree_paths.compare(
            self._saved(step),
            tree_paths.described(target),
            where=_where(step),
            whole=True,
        )
        request = _request(target)
        restored = self._orbax.restore(
            self._at(step), args=ocp.args.StandardRestore(request)
        )
        self._settled.add(step)
        return _filled(abstract, target, restored)

    def restore_part(self, step: int, abstract: Any) -> Any:
        """Restore as `restore`, of the leaves in `abstract` alone; no other is read.

        Raises:
          UserError: As `restore`, but for leaves that are not asked for.
        """
        target = tree_paths.by_path(abstract)
        tree_paths.compare(
            self._saved(step),
            tree_paths.described(target),
            where=_where(step),
            whole=False,
        )
        request = _request(target)
        restored = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
            self._at(step),
            args=ocp.args.PyTreeRestore(
                request,
                restore_args=ocp.checkpoint_utils.construct_restore_args(request),
                partial_restore=True,
            ),
        )
        return _filled(abstract, target, restored)

    def _saved(self, step: int) -> Mapping[str, manifest.Leaf]:
        self.wait()
        return self._manifest(step).leaves

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

    def _at(self, step: int) -> Path:
        return self._directory / f"{step:08d}"

    def _steps(self) -> list[int]:
        """Return every step with a directory, good or not, ascending."""
        if not self._directory.is_dir():
            return []
        names = [path.name for path in self._directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def _check_newest(self) -> int:
        self.rejected = []
        for step in reversed(self._steps()):
            try:
                self._verified[step] = manifest.check(self._at(step), step=step)
            except manifest.CorruptCheckpoint as damage:
                self.rejected.append(RejectedCheckpoint(step=step, reason=str(damage)))
                log.warning("checkpoint %s refused: %s", self._at(step), damage)
            else:
                return step
        return -1

    def _manifest(self, step: int) -> manifest.Manifest:
        if step in self._verified:
            return self._verified[step]
        verify = manifest.check if jax.process_index() == 0 else manifest.read
        try:
            return verify(self._at(step), step=step)
        except manifest.CorruptCheckpoint as damage:
            raise UserError(
                f"checkpoint {self._at(step)} refused: {damage}"
            ) from damage

    def _seal(self, step: int, described: dict[str, manifest.Leaf]) -> None:
        with self._named(step):
            self._orbax.wait_until_finished()
            if jax.process_index() == 0:
                sealed = manifest.seal(self._at(step), step=step, leaves=described)
                self._verified[step] = sealed
                self._delete_old(step)
            self._settled.add(step)

    def _delete_old(self, newest: int) -> None:
        """Keep `keep` sealed steps up to `newest`, and nothing older than those."""
        older = [step for step in self._steps() if step <= newest]
        sealed = [step for step in older if (self._at(step) / manifest.NAME).exists()]
        for step in older:
            if step < sealed[-self._keep :][0]:
                # First the manifest: a directory half deleted must not look whole.
                (self._at(step) / manifest.NAME).unlink(missing_ok=True)
                shutil.rmtree(self._at(step))
                self._verified.pop(step, None)

    def _clean(self) -> None:
        """Delete the temporary directories of killed runs."""
        for path in self._directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _require_room(self, needed: int) -> None:
        """Refuse in one line what the writing would refuse in hundreds."""
        ancestors = (self._directory, *self._directory.parents)
        free = shutil.disk_usage(next(p for p in ancestors if p.exists())).free
        if needed > free:
            raise UserError(
                f"{self._directory}: a checkpoint takes {needed / 1e6:,.0f} MB, "
                f"the disk has {free / 1e6:,.0f} MB left"
            )

    @contextlib.contextmanager
    def _named(self, step: int):
        """Name the checkpoint in a disk's error; tensorstore's are ValueErrors."""
        try:
            yield
        except (OSError, ValueError) as error:
            # What was written comes first in such a message, why not comes last.
            reason = str(error).partition("\n")[0]
            reason = reason if len(reason) < 300 else f"... {reason[-200:]}"
            raise UserError(
                f"checkpoint {self._at(step)} could not be written: {reason}"
            ) from error


def _where(step: int) -> str:
    return f"checkpoint of step {step}"


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
