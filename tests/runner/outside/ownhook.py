"""A hook and a writer in a module beside the config file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import runner


@dataclasses.dataclass
class Enough(runner.StepHook):
    """Logs the size of the embedding, and ends the run at its last call."""

    calls: int
    every: int
    made: int = dataclasses.field(default=0, init=False)

    def due(self, step: int) -> bool:
        return step > 0 and step % self.every == 0

    def __call__(self, context: runner.StepContext) -> None:
        self.made += 1
        embedding = np.asarray(context.state.params["student"]["embedding"])
        loss = context.metrics["learning/focal"]
        context.log({"own/norm": float(np.linalg.norm(embedding)), "own/loss": loss})
        if self.made == self.calls:
            context.stop(f"{self.made} calls were made")

    def memory(self) -> dict[str, int]:
        return {"made": self.made}

    def recall(self, memory: dict[str, int]) -> None:
        self.made = memory["made"]


class Lines(runner.RunWriter):
    """Appends a line for each write to `own.txt`."""

    def open(self, workdir: Path, *, start_step: int) -> None:
        self.path = workdir / "own.txt"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if int(line.split()[0]) <= start_step]
        self.path.write_text("".join(f"{line}\n" for line in kept))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if "learning/focal" in metrics:
            with self.path.open("a") as file:
                file.write(f"{step} {metrics['learning/focal']}\n")
