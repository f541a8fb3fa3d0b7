"""Weights & Biases, for those who ask for it."""

import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runner import atomic_files
from runner.errors import UserError
from runner.writers import parameters
from runner.writers.base import PartialWriter
from runner.writers.console import split_evaluation


class WandbWriter(PartialWriter):
    """Scalars, texts, images and histograms in one run per work directory.

    It is named as the directory, units of a sweep are a group, the graph is its config,
    and the summary holds the latest of every evaluation. The run's id is kept in the
    work directory, so that a resumed run continues it. Steps are a metric of their own:
    Weights & Biases' counter cannot go back, and a resumed run starts again at its last
    checkpoint.
    """

    def __init__(self, workdir: str | Path, *, project: str):
        self._wandb = _import()
        workdir = Path(workdir).absolute()
        name, sweep = parameters.names(workdir)
        self._run = self._wandb.init(
            project=project,
            name=name,
            group=sweep or None,
            config=parameters.parse(parameters.read_text(workdir)),
            dir=str(workdir),
            id=_run_id(workdir / "wandb_id.txt"),
            resume="allow",
        )
        self._run.define_metric("*", step_metric="step")
        self._summary: dict[str, float] = {}

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({"step": int(step), **values})

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        numbers = {k: np.asarray(v).item() for k, v in scalars.items()}
        self._log(step, numbers)
        # Of all rows: what is measured of some is a curve, and no result.
        results = {k: v for k, v in numbers.items() if split_evaluation(k)[0]}
        shares = {v for k, v in results.items() if k.endswith("/share")}
        if results and shares <= {1.0}:
            self._summary |= {k: v for k, v in results.items() if math.isfinite(v)}

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        html = {k: self._wandb.Html(_preformatted(v)) for k, v in texts.items()}
        self._log(step, html)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        pictures = {}
        for name, image in images.items():
            image = np.asarray(image)
            batch = image[None] if image.ndim == 3 else image
            pictures[name] = [self._wandb.Image(one) for one in batch]
        self._log(step, pictures)

    def write_histograms(self, step, arrays, num_buckets=None) -> None:
        self._log(
            step,
            {k: self._wandb.Histogram(np.asarray(v)) for k, v in arrays.items()},
        )

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(dict(hparams), allow_val_change=True)

    def close(self) -> None:
        self._run.summary.update(self._summary)
        self._run.finish()


def _import() -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError(
            "loop.wandb_project is set, but wandb is not installed\n"
            "install it with: pip install wandb"
        ) from None
    return wandb


def _run_id(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write_atomic(path, uuid.uuid4().hex[:12] + "\n")
    return path.read_text().strip()


def _preformatted(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<pre>{escaped}</pre>"
