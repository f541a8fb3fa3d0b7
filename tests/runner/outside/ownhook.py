"""A hook in a module beside the config file."""

import dataclasses

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
