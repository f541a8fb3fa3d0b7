"""Collectives of a compiled step: kinds, counts, bytes, mesh axes."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping

from runner.dry_run.hlo import loops, parse, replica_groups

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_SCATTERS = "reduce-scatter"
_STARTS = "async-collective-start"


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind along the same mesh axes, in one step.

    Attributes:
      kind: One of `KINDS`.
      axes: Those along which the devices of a group differ; None if not named.
      group: Devices in a group (of a permutation: 2, a sender and a receiver).
      count: How often a device takes part.
      bytes: Of whole arrays on one device, added up: of a reduce-scatter its inputs, of
        any other its outputs.
      open: Some are in a loop as long as its data decide, and are counted once there.
    """

    kind: str
    axes: tuple[str, ...] | None
    group: int
    count: int
    bytes: int
    open: bool = False

    @property
    def sent(self) -> int:
        """Bytes that a device sends, where the group is a ring.

        With n devices: `(n-1)/n` of the array, of an all-reduce twice; of a permutation
        or a broadcast all of it.
        """
        if self.kind in ("collective-permute", "collective-broadcast"):
            return self.bytes
        rounds = 2 if self.kind == "all-reduce" else 1
        return rounds * self.bytes * (self.group - 1) // max(self.group, 1)


@dataclasses.dataclass(frozen=True)
class _Use:
    """One instruction, and how often it runs."""

    instruction: parse.Instruction
    times: int
    open: bool
    fused: str


def of(text: str, mesh: Mapping[str, int]) -> list[Collective]:
    """Return the collectives in the text of a compiled program, most bytes first.

    The trips of loops are multiplied in. Of a conditional every branch counts.

    Args:
      text: As `compiled.as_text()` returns it.
      mesh: Devices along each axis of the mesh that it is compiled over.
    """
    module = parse.parse(text)
    counts: Counter[tuple] = Counter()
    volumes: Counter[tuple] = Counter()
    unsure = set()
    for use in _once(list(_walk(module, module.entry, 1, open_=False, fused=""))):
        key = _key(use.instruction, mesh)
        if key[2] == 1:  # alone in its group, a device sends nothing
            continue
        counts[key] += use.times
        volumes[key] += use.times * _bytes(use.instruction, key[2])
        if use.open:
            unsure.add(key)
    collectives = [
        Collective(
            kind=kind,
            axes=axes,
            group=group,
            count=counts[kind, axes, group],
            bytes=volumes[kind, axes, group],
            open=(kind, axes, group) in unsure,
        )
        for kind, axes, group in counts
    ]
    return sorted(collectives, key=lambda c: -c.bytes)


def _walk(
    module: parse.Module, name: str, times: int, *, open_: bool, fused: str
) -> Iterator[_Use]:
    """Collectives in a computation and in all that it calls."""
    computation = module.computations[name]
    for instruction in computation:
        if _kind(instruction.opcode) is not None:
            yield _Use(instruction, times, open_, fused)
            continue
        # The end of an asynchronous collective names it again.
        if instruction.opcode.endswith(("-done", "-update")):
            continue
        # A loop whose length its data decide counts once, and is marked as open.
        trips: int | None = 1
        if instruction.opcode == "while":
            trips = loops.trips(module, computation, instruction)
        within = instruction.name if instruction.opcode == "fusion" else fused
        for called in instruction.called:
            yield from _walk(
                module,
                called,
                times * (1 if trips is None else trips),
                open_=open_ or trips is None,
                fused=within,
            )


def _kind(opcode: str) -> str | None:
    kind = opcode.removesuffix("-start")
    return kind if kind in KINDS else None


def _once(uses: list[_Use]) -> Iterator[_Use]:
    """Without the repetitions of a collective that is spread over several fusions.

    The compiler of TPUs cuts one into a start, pieces inside the fusions that it runs
    beside (even in a loop), and an end, all with its channel. The start counts.
    """
    spread: dict[str, list[_Use]] = {}
    for use in uses:
        channel = use.instruction.attribute("channel_id")
        if use.fused and channel is not None:
            spread.setdefault(channel, []).append(use)
        else:
            yield use
    for pieces in spread.values():
        starts = [use for use in pieces if use.fused.startswith(_STARTS)]
        yield from starts or [min(pieces, key=lambda use: use.times)]


def _key(
    instruction: parse.Instruction, mesh: Mapping[str, int]
) -> tuple[str, tuple[str, ...] | None, int]:
    kind, devices = _kind(instruction.opcode), math.prod(mesh.values())
    assert kind is not None
    groups = replica_groups.groups(instruction.attributes, devices)
    if groups is None:
        return kind, None, devices
    return kind, replica_groups.axes(groups, mesh), groups.shape[1]


def _bytes(instruction: parse.Instruction, group: int) -> int:
    shape = instruction.shape
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        shape = parse.parts(shape)[1]  # after the operand
    times = group if _kind(instruction.opcode) == _SCATTERS else 1
    return parse.num_bytes(shape) * times
