"""Runtime settings, bound by gin: everything that must not change a result.

    runner ... --gin_file=configs/runtime/gpu.gin --gin.loop.log_every=50

Every class here is one gin configurable; `current()` makes them as gin has them bound.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import gin

from models import checks, sharding
from models.base import check_remat

T = TypeVar("T")
_AXES = ("data", "fsdp", "tensor", "expert")


def _section(name: str) -> Callable[[type[T]], type[T]]:
    """`gin.configurable(name)`, with the type that gin does not declare."""
    return cast(Any, gin.configurable)(name)


def _positive(section: str, values: Mapping[str, int]) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{section}.{name} must be at least 1, got {value}")


def _not_negative(section: str, values: Mapping[str, int]) -> None:
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{section}.{name} must not be negative, got {value}")


def _one_of(section: str, process: int, processes: int) -> None:
    if not 0 <= process < processes:
        raise ValueError(
            f"{section}.process must be 0 to {processes - 1}, got {process}"
        )


@_section("loop")
@dataclasses.dataclass(frozen=True)
class Loop:
    """Intervals of the training loop, in optimizer steps; 0: after the last step alone.

    Attributes:
      log_every: between two lines of metrics.
      evaluate_every: between two evaluations; there is one of all rows before the
        first step and after the last.
      evaluate_batches: batches of each evaluation in between.
      checkpoint_every: between two checkpoints.
      keep_checkpoints: number of checkpoints that are kept.
      repeat_every: between two steps that are run twice and compared bit for bit.
      sample_every: between two sampled texts.
      profile_start: the step at which the profiler starts.
      profile_steps: number of steps profiled.
      wandb_project: a project of Weights & Biases; empty for none.
      quiet: show progress and evaluations on the terminal, but neither samples nor the
        final table: for a run that is one of several.
    """

    log_every: int = 10
    evaluate_every: int = 200
    evaluate_batches: int = 8
    checkpoint_every: int = 200
    keep_checkpoints: int = 3
    repeat_every: int = 0
    sample_every: int = 0
    profile_start: int = 0
    profile_steps: int = 0
    wandb_project: str = ""
    quiet: bool = False

    def __post_init__(self):
        _positive(
            "loop",
            {
                "log_every": self.log_every,
                "evaluate_batches": self.evaluate_batches,
                "keep_checkpoints": self.keep_checkpoints,
            },
        )
        values = dataclasses.asdict(self)
        numbers = {name: x for name, x in values.items() if isinstance(x, int)}
        _not_negative("loop", numbers)


@_section("mesh")
@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices along each axis (-1: all that are left), and logical -> mesh axes.

    Attributes:
      data: devices along this axis; likewise `fsdp`, `tensor` and `expert`.
      rules: mesh axes by logical axis.
      num_cpu_devices: split the CPU into this many devices; 0 leaves it alone.
      topology: the devices that this is meant for, such as `v5e:16x16` or `h100:8`;
        empty for those at hand. A dry run is laid out on them, a run is refused on
        others; see `runner.machine.topology`.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    expert: int = 1
    rules: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=lambda: dict(sharding.RULES)
    )
    num_cpu_devices: int = 0
    topology: str = ""

    def __post_init__(self):
        _not_negative("mesh", {"num_cpu_devices": self.num_cpu_devices})
        for logical, axes in self.rules.items():
            if logical not in sharding.RULES:
                near = checks.nearest(logical, sharding.RULES)
                raise ValueError(f"mesh.rules: no logical axis {logical!r}{near}")
            for axis in axes:
                if axis not in _AXES:
                    near = checks.nearest(axis, _AXES)
                    raise ValueError(f"mesh.rules: no mesh axis {axis!r}{near}")


@_section("step")
@dataclasses.dataclass(frozen=True)
class Step:
    """Division of a step.

    Attributes:
      microbatches: number of microbatches of a batch.
      remat: rematerialization policy of the trunk; see `models.base.check_remat`.
    """

    microbatches: int = 1
    remat: str = "none"

    def __post_init__(self):
        _positive("step", {"microbatches": self.microbatches})
        check_remat(self.remat)


@_section("head")
@dataclasses.dataclass(frozen=True)
class Head:
    """Memory limits of the head and the losses; see `runner.head.plan`.

    Attributes:
      memory_budget: bytes on each device for logits and arrays of their size.
      block_memory: bytes of these that a block of tokens takes, where they hold
        `smallest_block` tokens: larger blocks are no faster.
      smallest_block: where fewer tokens than this would fit, the vocabulary is cut
        instead, if every loss can be (logits are then computed twice, but the head's
        weights are not read once a handful of tokens).
      smallest_tile: entries of the vocabulary that are computed at a time even where
        they do not fit; where they do, up to four times as many.
    """

    memory_budget: int = 256 * 2**20
    block_memory: int = 64 * 2**20
    smallest_block: int = 128
    smallest_tile: int = 128

    def __post_init__(self):
        _positive("head", dataclasses.asdict(self))


@_section("input")
@dataclasses.dataclass(frozen=True)
class Input:
    """Input pipeline.

    Attributes:
      prefetch: batches prepared ahead.
      threads: threads that prepare them.
      cache: the directory of cached corpora; empty for `$XDG_CACHE_HOME/retort` or
        `~/.cache/retort`.
    """

    prefetch: int = 4
    threads: int = 2
    cache: str = ""

    def __post_init__(self):
        _positive("input", {"prefetch": self.prefetch, "threads": self.threads})


@_section("recording")
@dataclasses.dataclass(frozen=True)
class Recording:
    """Processes that record one teacher together.

    They share a work directory and write disjoint shards; process 0 holds the lock.

    Attributes:
      processes: number of processes.
      process: number of this one.
    """

    processes: int = 1
    process: int = 0

    def __post_init__(self):
        _positive("recording", {"processes": self.processes})
        _one_of("recording", self.process, self.processes)


@_section("diagnostics")
@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Gradients of single terms, and agreement of student and teacher.

    Attributes:
      every: optimizer steps between two diagnoses; 0 is never. Each costs a backward
        pass and the student's gradients once a term.
      best: number of the teacher's best entries over which the student's probability
        is summed.
    """

    every: int = 0
    best: int = 10

    def __post_init__(self):
        _positive("diagnostics", {"best": self.best})
        _not_negative("diagnostics", {"every": self.every})


@_section("compilation")
@dataclasses.dataclass(frozen=True)
class Compilation:
    """Compilation by XLA.

    Attributes:
      cache: the directory of compiled programs, which later starts read; empty for
        `compiled` in `$XDG_CACHE_HOME/retort` or `~/.cache/retort`, or where JAX was
        told to keep them. See `runner.machine.compiled_programs`.
      cache_bytes: their size at most, the least recently used removed; 0 keeps none.
    """

    cache: str = ""
    cache_bytes: int = 2 * 2**30

    def __post_init__(self):
        _not_negative("compilation", {"cache_bytes": self.cache_bytes})


@_section("distributed")
@dataclasses.dataclass(frozen=True)
class Distributed:
    """Processes that train together; see `runner.machine.distributed`.

    Attributes:
      coordinator: `host:port` of process 0; empty under Slurm or Open MPI.
      processes: number of processes that train together.
      process: number of this one.
      detect: let JAX look for a TPU pod, or Kubernetes (package `kubernetes`).
      start_seconds: time for all processes to connect.
      heartbeat_seconds: a process that is silent for so long counts as dead.
    """

    coordinator: str = ""
    processes: int = 1
    process: int = 0
    detect: bool = False
    start_seconds: int = 300
    heartbeat_seconds: int = 20

    def __post_init__(self):
        _positive(
            "distributed",
            {
                "processes": self.processes,
                "start_seconds": self.start_seconds,
                "heartbeat_seconds": self.heartbeat_seconds,
            },
        )
        _one_of("distributed", self.process, self.processes)
        host, _, port = self.coordinator.rpartition(":")
        is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 2**16
        if self.coordinator and not (host and is_port):
            raise ValueError(
                "distributed.coordinator must be HOST:PORT, such as node1:12345, "
                f"got {self.coordinator!r}"
            )


@_section("watchdog")
@dataclasses.dataclass(frozen=True)
class Watchdog:
    """Detection of a run that hangs; see `runner.machine.watchdog`.

    Attributes:
      seconds: without the end of a step, evaluations, checkpoints and the compilation
        included, after which the stacks of all threads are written; 0 is never.
      end: end the process then, with exit code 4.
    """

    seconds: int = 0
    end: bool = False

    def __post_init__(self):
        _not_negative("watchdog", {"seconds": self.seconds})


@dataclasses.dataclass(frozen=True)
class Runtime:
    """All sections of the runtime."""

    loop: Loop = dataclasses.field(default_factory=Loop)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    step: Step = dataclasses.field(default_factory=Step)
    head: Head = dataclasses.field(default_factory=Head)
    input: Input = dataclasses.field(default_factory=Input)
    recording: Recording = dataclasses.field(default_factory=Recording)
    diagnostics: Diagnostics = dataclasses.field(default_factory=Diagnostics)
    compilation: Compilation = dataclasses.field(default_factory=Compilation)
    distributed: Distributed = dataclasses.field(default_factory=Distributed)
    watchdog: Watchdog = dataclasses.field(default_factory=Watchdog)


def current() -> Runtime:
    """Return the runtime as gin has it bound now.

    Raises:
      ValueError: a value is out of range.
    """
    return Runtime()
