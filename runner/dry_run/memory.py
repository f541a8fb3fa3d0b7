"""What a step takes of each device's memory."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from runner.dry_run.compiling import Attempt
from runner.dry_run.rows import aligned
from runner.machine.topology import Planned
from runner.train.trainer import Trainer
from runner.writers.quantities import quantity


def table(trainer: Trainer, planned: Planned, attempt: Attempt) -> Iterator[str]:
    """Arrays by their shardings, the rest as the compiler plans it."""
    state, teacher = trainer.step.state, trainer.step.teacher
    params, optimizer = local(state.params), local(state.opt_state)
    taught = local(state.teacher)
    taught += local(teacher.abstract) if teacher is not None else 0
    rows = [
        ("parameters", params, ""),
        ("optimiser state", optimizer, ""),
        *([("teacher's parameters", taught, "")] if taught else []),
    ]
    total = 0
    found = attempt.program and attempt.program.memory_analysis()
    if found is not None:
        arguments = found.argument_size_in_bytes
        rest = max(arguments - params - optimizer - taught, 0)
        results = found.output_size_in_bytes - found.alias_size_in_bytes
        scratch = found.temp_size_in_bytes
        within = f"activations, gathered parameters, gradients ({size(params)})"
        rows += [
            ("batch, counters, padding", rest, ""),
            ("temporaries", scratch, within),
            ("results beside the state", results, ""),
        ]
        total = arguments + results + scratch
        rows.append(("together", total, ""))
    yield "memory of each device"
    shown = [(f"  {name}", size(count), said) for name, count, said in rows]
    yield from aligned(shown, numbers=(1,))
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
