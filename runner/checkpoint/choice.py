"""The choice of a checkpoint of a run."""

from pathlib import Path

from runner.checkpoint import best, manifest
from runner.checkpoint.directory import CheckpointDirectory
from runner.errors import UserError
from runner.files import form

BEST = "best"
"""The name of that step where a step is asked for."""


def best_step(workdir: str | Path) -> int:
    """Return the step of the best checkpoint in a work directory.

    It is the one that the newest whole checkpoint names. No array is read into memory.

    Raises:
      UserError: There is no whole checkpoint, the run keeps no best one, or the best
        one is damaged.
    """
    directory = CheckpointDirectory(Path(workdir) / "checkpoints", keep=1)
    newest = directory.check_newest()
    if newest is None:
        raise UserError(f"{workdir} holds no whole checkpoint")
    choice = None
    with form.of_file(directory.at(newest) / manifest.NAME):
        choice = best.of_memories(directory.checked_manifest(newest).memories)
    if choice is None:
        raise UserError(
            f"{workdir} has no best checkpoint: its graph has no keep_best, or nothing "
            f"was measured by step {newest}"
        )
    if choice.step is None:
        raise UserError(f"{workdir} has no best checkpoint: no value was finite")
    directory.checked_manifest(choice.step)
    return choice.step
