"""A run of steps as slow as a test wants: half a second while a file is there."""

import dataclasses
import time
from pathlib import Path

import fiddle as fdl
from fiddle.experimental.auto_config import auto_config

import runner
from runner import sweeps
from tests.runner.sweeps import tiny_config

STEPS = 200


@dataclasses.dataclass
class Pace(runner.StepHook):
    """Sleeps at each step while the file `slow` is there."""

    slow: str

    def due(self, step: int) -> bool:
        return step > 0

    def __call__(self, context: runner.StepContext) -> None:
        if Path(self.slow).exists():
            time.sleep(0.5)


@auto_config
def config() -> runner.Experiment:
    return tiny_config.config()


def paced(cfg: fdl.Config, text: str, slow: str) -> fdl.Config:
    """The text of a file, at the pace of another."""
    tiny_config.reads(cfg, text)
    cfg.num_steps = STEPS
    cfg.hooks = [fdl.Config(Pace, slow=slow)]
    return cfg


def rates() -> list[sweeps.Point]:
    """Two units."""
    return tiny_config.rates(1e-3, 1e-2)
