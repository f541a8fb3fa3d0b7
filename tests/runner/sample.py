"""A graph for the tests of the command line; loaded by path, as a user's would be."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import fiddle as fdl
import optax
from fiddle.experimental.auto_config import auto_config

import losses
import models
import models.tags
from runner.graph import job


@dataclasses.dataclass(frozen=True)
class Source(job.Checked):
    """Data that is a path and options of several types."""

    path: str | None = None
    order: Literal["file", "shuffled"] = "file"
    shape: tuple[int, ...] = (2, 3)

    def check(self):
        if self.path and not Path(self.path).exists():
            raise ValueError(f"path: no such file {self.path}")


@dataclasses.dataclass(frozen=True)
class Job(job.Job):
    """A job that is never run."""

    student: Callable[..., models.Model]
    losses: Sequence[losses.LossTerm]
    optimizer: optax.GradientTransformation
    num_steps: int
    source: Source = Source()
    ratio: float = 0.5
    shuffle: bool = False
    options: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def run(self, workdir: Any) -> None:
        """Never reached here."""


@auto_config
def config() -> Job:
    """The default."""
    return Job(
        student=functools.partial(models.Transformer, vocab_size=64, num_layers=2),
        losses=[
            losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
            losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
        ],
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(optax.cosine_decay_schedule(1e-3, 10)),
        ),
        num_steps=10,
        options={"a": 1},
    )


@auto_config
def sized(num_steps: int) -> Job:
    """Another function, with an argument."""
    return Job(student=None, losses=[], optimizer=optax.identity(), num_steps=num_steps)


def bigger(cfg: fdl.Config, factor: int = 2):
    """Changes the graph in place."""
    cfg.num_steps *= factor


def without(cfg: fdl.Config, name: str) -> fdl.Config:
    """Returns another graph."""
    return fdl.copy_with(cfg, losses=[t for t in cfg.losses if t.name != name])


def half(cfg: fdl.Config):
    """A fiddler that uses a tag."""
    fdl.set_tagged(cfg, tag=models.tags.DType, value="float16")


def misspelt(cfg: fdl.Config):
    """A fiddler that makes a node with a field that is none."""
    cfg.student.mlp = fdl.Partial(models.GatedMLP)
    cfg.student.mlp.hiden = 3


def not_a_graph(cfg: fdl.Config) -> int:
    """A fiddler that returns nonsense."""
    return 3


def fails(cfg: fdl.Config):
    """A fiddler with a bug."""
    cfg.no_such_field_anywhere = 1


def no_job() -> fdl.Config:
    """A graph that cannot be run."""
    return fdl.Config(losses.ZLoss)


def nothing():
    """No graph at all."""


def required() -> fdl.Config:
    """A graph that lacks fields."""
    return fdl.Config(Job, num_steps=3)


def rates(path: str = "fdl.num_steps"):
    """A sweep, sound or not."""
    return [{path: 1}, {path: 1.0}, {path: 2}] if path == "fdl.ratio" else [{path: 1}]
