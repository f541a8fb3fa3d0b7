"""Memory of a step on each device."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from runner.dry_run.compiling import Attempt
from runner.machine.topology import Planned
from runner.train.setup import Setup
from runner.writers.quantities import quantity


def table(setup: Setup, planned: Planned, attempt: Attempt) -> Iterator[str]:
    """Arrays by their shardings, the rest as the compiler plans it."""
    # What is known from shapes and shardings, compiled or not.
    state, teacher = setup.step.state, setup.step.teacher
    params, optimizer = local(state.params), local(state.opt_state)
    frozen = local(setup.modules.frozen(state.variables))
    teacher_bytes = local(state.teacher)
    teacher_bytes += local(teacher.abstract) if teacher is not None else 0
    rows = [
        ("parameters", params, ""),
        *([("frozen parameters", frozen, "")] if frozen else []),
        ("optimiser state", optimizer, ""),
        *([("teacher's parameters", teacher_bytes, "")] if teacher_bytes else []),
    ]

    # What only the compiler knows; donated results share the memory of arguments.
    total = 0
    analysis = attempt.program and attempt.program.memory_analysis()
    if analysis is not None:
        arguments = analysis.argument_size_in_bytes
        rest = max(arguments - params - frozen - optimizer - teacher_bytes, 0)
        results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        scratch = analysis.temp_size_in_bytes
        within = f"activations, gathered parameters, gradients ({size(params)})"
        rows += [
            ("batch, counters, padding", rest, ""),
            ("temporaries", scratch, within),
            ("results beside the state", results, ""),
        ]
        total = arguments + results + scratch
        rows.append(("together", total, ""))

    yield "memory of each device"
    lines = [(f"  {name}", size(count), remark) for name, count, remark in rows]
    yield from aligned(lines, numbers=(1,))
    yield from _verdict(planned, attempt, total)


def _verdict(planned: Planned, attempt: Attempt, total: int) -> Iterator[str]:
    if attempt.refused:
        yield f"  does not fit, says the compiler: {attempt.refused}"
    elif total and planned.chip and planned.chip.memory:
        has, kind = planned.chip.memory, planned.chip.kind
        if total > has:
            yield f"  does not fit the {size(has)} of one {kind}: {total / has:.0%}"
        else:
            yield f"  {total / has:.0%} of the {size(has)} of one {kind}"


def local(tree: Any) -> int:
    """Bytes of these arrays on one device, by their shardings."""
    return sum(map(local_bytes, jax.tree.leaves(tree)))


def local_bytes(x: jax.ShapeDtypeStruct) -> int:
    """Bytes of an array on one device."""
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    return math.prod(shape) * x.dtype.itemsize


def size(count: float) -> str:
    """Bytes for a reader: `17.2GB`."""
    return f"{quantity(count)}B"


def aligned(rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> Iterator[str]:
    """Each row as a line; the columns `numbers` to the right, others to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
