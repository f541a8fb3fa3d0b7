"""The directory of a run's checkpoints: which steps it holds, and which are whole.

A step counts once every file of it is listed in a manifest
(`runner.checkpoint.manifest`) and is as it was then. Process 0 alone seals, checks and
deletes.
"""

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from runner.checkpoint import best, manifest
from runner.errors import UserError
from runner.files import form

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RejectedCheckpoint:
    """A checkpoint that does not count, and why.

    Attributes:
      step: its step.
      reason: what is wrong with it.
      unsealed: True if its save was never done, so that nothing was lost.
    """

    step: int
    reason: str
    unsealed: bool = False


class CheckpointDirectory:
    """The steps in `<path>/<step>/`, and what was found of their files.

    Attributes:
      rejected: checkpoints that `check_newest` passed over, newest first.
    """

    def __init__(self, path: Path | str, *, keep: int):
        """Touch nothing on disk.

        Args:
          path: the directory, which need not exist.
          keep: number of sealed steps that stay; older ones go once a newer is sealed,
            but for those that one which stays names as the best.

        Raises:
          UserError: `keep` is below 1.
        """
        if keep < 1:
            raise UserError(f"checkpoints to keep must be positive, got {keep}")
        self.rejected: list[RejectedCheckpoint] = []
        self._path, self._keep = Path(path).absolute(), keep
        self._verified: dict[int, manifest.Manifest] = {}

    def at(self, step: int) -> Path:
        """Return the directory of a step."""
        return self._path / f"{step:08d}"

    def steps(self) -> list[int]:
        """Return every step with a directory, good or not, ascending."""
        if not self._path.is_dir():
            return []
        names = [path.name for path in self._path.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def check_newest(self) -> int | None:
        """Return the newest step that is whole; log and list damaged newer ones."""
        self.rejected = []
        for step in reversed(self.steps()):
            try:
                self._verified[step] = manifest.check(self.at(step), step=step)
            except manifest.CorruptCheckpoint as damage:
                unsealed = isinstance(damage, manifest.UnsealedCheckpoint)
                rejected = RejectedCheckpoint(step, str(damage), unsealed)
                self.rejected.append(rejected)
                log.warning("checkpoint %s refused: %s", self.at(step), damage)
            else:
                return step
        return None

    def refuse_if_all_damaged(self) -> None:
        """Refuse to begin at step 0 where checkpoints were, and none is whole.

        One whose save a kill cut short was none yet; a second such is damage too, for a
        save begins when the one before it is sealed.

        Raises:
          UserError: with each of them, as `check_newest` left them.
        """
        unsealed = [x for x in self.rejected if x.unsealed]
        if len(unsealed) == len(self.rejected) < 2:
            return
        first, *others = [f"step {x.step}: {x.reason}" for x in self.rejected]
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(
            f"{self._path}: no checkpoint is whole; {first}{more}\n"
            "bring one back, or begin anew at step 0 with --begin_anew"
        )

    def checked_manifest(self, step: int) -> manifest.Manifest:
        """Return the manifest of a step, which is checked unless it was before.

        Raises:
          UserError: the checkpoint is damaged.
        """
        if step in self._verified:
            return self._verified[step]
        verify = manifest.check if jax.process_index() == 0 else manifest.read
        try:
            return verify(self.at(step), step=step)
        except manifest.CorruptCheckpoint as damage:
            raise UserError(f"checkpoint {self.at(step)} refused: {damage}") from damage

    def seal(
        self,
        step: int,
        leaves: dict[str, manifest.Leaf],
        memories: Mapping[str, Any],
    ) -> None:
        """List the files of a step in its manifest, then delete steps it replaces."""
        sealed = manifest.seal(
            self.at(step), step=step, leaves=leaves, memories=memories
        )
        self._verified[step] = sealed
        self._delete_old(step)

    def prepare(self, needed: int) -> None:
        """Delete what killed runs left, and refuse a disk without room.

        Args:
          needed: bytes of the arrays that are to be written.

        Raises:
          UserError: in one line, what the writing would say in hundreds.
        """
        for path in self._path.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)
        ancestors = (self._path, *self._path.parents)
        free = shutil.disk_usage(next(p for p in ancestors if p.exists())).free
        if needed > free:
            raise UserError(
                f"{self._path}: a checkpoint takes {needed / 1e6:,.0f} MB, "
                f"the disk has {free / 1e6:,.0f} MB left"
            )

    @contextlib.contextmanager
    def write_errors(self, step: int) -> Iterator[None]:
        """Name the checkpoint in a disk's error; tensorstore's are ValueErrors."""
        try:
            yield
        except (OSError, ValueError) as error:
            # What was written comes first in such a message, why not comes last.
            reason = str(error).partition("\n")[0]
            reason = reason if len(reason) < 300 else f"... {reason[-200:]}"
            raise UserError(
                f"checkpoint {self.at(step)} could not be written: {reason}"
            ) from error

    def _delete_old(self, newest: int) -> None:
        """Keep `keep` sealed steps up to `newest`, and what these name as the best."""
        older = [step for step in self.steps() if step <= newest]
        sealed = [step for step in older if (self.at(step) / manifest.NAME).exists()]
        staying = sealed[-self._keep :]
        best_steps = {self._best_of(step) for step in staying}
        for step in older:
            if step < staying[0] and step not in best_steps:
                # First the manifest: a directory half deleted must not look whole.
                self._verified.pop(step, None)
                try:
                    if self.at(step).is_symlink():  # it leads to somebody else's
                        self.at(step).unlink()
                        continue
                    (self.at(step) / manifest.NAME).unlink(missing_ok=True)
                    shutil.rmtree(self.at(step))
                except OSError as error:  # the save is done: nothing is lost
                    reason = error.strerror or error
                    log.warning("%s could not be deleted: %s", self.at(step), reason)

    def _best_of(self, step: int) -> int | None:
        """Return the step that a sealed one names as the best, as far as it can."""
        try:
            sealed = self._verified.get(step) or manifest.read(self.at(step), step=step)
            choice = best.of_memories(sealed.memories)
        except (manifest.CorruptCheckpoint, form.Malformed):
            return None
        return choice and choice.step
