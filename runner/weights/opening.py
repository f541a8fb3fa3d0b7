"""The weights that lie at a path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.files import remote
from runner.weights.base import Weights
from runner.weights.published import PublishedWeights
from runner.weights.run import RunWeights


def find(checkpoint: str) -> type[Weights]:
    """Return the class for the files at a path; nothing is read.

    Raises:
      UserError: none does.
    """
    remote.refuse("checkpoint", checkpoint)
    if (Path(checkpoint).expanduser() / "checkpoints").is_dir():
        return RunWeights
    from models import pretrained

    try:
        pretrained.locate(checkpoint)
    except ValueError as error:
        also = "; a trained run's work directory serves too"
        hint = "" if checkpoint.startswith(pretrained.PACKAGE) else also
        raise UserError(f"{error}{hint}") from None
    return PublishedWeights


def open_weights(checkpoint: str, settings: Mapping[str, Any] | None = None) -> Weights:
    """Return the weights at a path.

    Args:
      checkpoint: path of a run of ours or of a published model.
      settings: entries of `config.json` in place of a published model's own.

    Raises:
      UserError: none are, or they are damaged.
    """
    kind = find(checkpoint)
    if kind is PublishedWeights:
        return PublishedWeights(checkpoint, settings)
    if settings:
        raise UserError(
            f"settings are of published models; {checkpoint} is a run of ours, whose "
            "graph says all"
        )
    return kind(checkpoint)  # pyright: ignore[reportCallIssue] - each takes it
