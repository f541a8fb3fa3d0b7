"""What a run would be: shapes, shardings, FLOPs and memory; nothing is trained."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax

from runner import flops
from runner.errors import UserError
from runner.mesh import AXES
from runner.prepared import Prepared, prepare
from runner.progress import quantity

if TYPE_CHECKING:
    from runner.experiment import Experiment


def report(experiment: "Experiment") -> None:
    """Print what `--dry_run` promises; the step is compiled and not run.

    Raises:
      UserError: the job is no experiment, or its parts do not fit each other.
    """
    from runner.experiment import Experiment

    if not isinstance(experiment, Experiment):
        raise UserError(
            f"--dry_run: {type(experiment).__name__} has no step to compile"
        )
    prepared = prepare(experiment)
    for section in (machine, batch, parameters, cost):
        print("\n".join(section(prepared)), end="\n\n")


def machine(prepared: Prepared) -> Iterator[str]:
    """Devices and mesh."""
    shape = " ".join(f"{axis}={prepared.mesh.shape[axis]}" for axis in AXES)
    kind = jax.devices()[0].device_kind
    yield f"devices     {jax.device_count()} x {kind}, mesh {shape}"


def batch(prepared: Prepared) -> Iterator[str]:
    """The global batch and how it is cut."""
    rows, length = prepared.experiment.batch_size, prepared.dataset.targets_per_row
    step, unit = prepared.config.step, prepared.dataset.unit
    cut = f"{rows} sequences x {length} = " if length > 1 else ""
    yield f"batch       {cut}{rows * length:,} {unit}s per step"
    yield (
        f"            microbatches {step.microbatches}, remat {step.remat}, "
        f"head {prepared.step.head_plan(prepared.abstract_batch())}"
    )
    for name, x in prepared.abstract_batch().items():
        yield f"            {name:<12} {x.dtype!s:<6} {_shape(x)}"
    wanted = [
        name for name, yes in prepared.step.objective.beforehand.passes.items() if yes
    ]
    if wanted:
        which = "head and trunk" if step.microbatches > 1 else "head"
        yield (
            f"            {' and '.join(wanted)} of the global batch are wanted first: "
            f"a pass of the {which} more each"
        )


def parameters(prepared: Prepared) -> Iterator[str]:
    """Every trained array and where it lies."""
    rows = [("parameter", "shape", "dtype", "size", "sharding", "bytes per device")]
    state = prepared.step.state
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    for path, x in leaves:
        rows.append(
            (
                "/".join(key.key for key in path),
                _shape(x),
                str(x.dtype),
                f"{x.size:,}",
                ", ".join(_axis(axis) for axis in x.sharding.spec) or "replicated",
                f"{_local_bytes(x):,}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if i in (3, 5) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
    size = sum(x.size for _, x in leaves)
    optimizer = sum(_local_bytes(x) for x in jax.tree.leaves(state.opt_state))
    yield f"{size:,} parameters; optimiser state {_bytes(optimizer)} per device"
    teacher = prepared.step.teacher
    if teacher is not None:
        arrays = jax.tree.leaves(teacher.abstract)
        local = _bytes(sum(map(_local_bytes, arrays)))
        count = sum(x.size for x in arrays)
        has = f"{count:,} parameters, {local} per device" if arrays else "no parameters"
        yield f"{teacher.describe()['kind']} teacher: {has} beside the student's"


def cost(prepared: Prepared) -> Iterator[str]:
    """FLOPs from the jaxpr, memory from the compiler."""
    arguments = prepared.abstract_arguments()
    count = prepared.flops_per_step()
    each = f"{count // prepared.targets_per_step:,} per {prepared.dataset.unit}"
    bound = flops.is_lower_bound(prepared.step.compiled, *arguments)
    least = "at least " if bound else ""
    yield f"FLOPs       {least}{quantity(count)} in matmuls per step, {each}"
    peak = flops.peak(jax.devices()[0])
    if peak is not None:
        yield f"            {quantity(peak * jax.device_count())} per second at peak"
    memory = prepared.step.compiled.lower(*arguments).compile().memory_analysis()
    if memory is None:  # not every backend tells
        return
    yield (
        "memory      per device: "
        f"state and batch {_bytes(memory.argument_size_in_bytes)} "
        f"(donated {_bytes(memory.alias_size_in_bytes)}), "
        f"temporaries {_bytes(memory.temp_size_in_bytes)}"
    )


def _shape(x: jax.ShapeDtypeStruct) -> str:
    return "[" + " ".join(map(str, x.shape)) + "]"


def _axis(axis: str | tuple[str, ...] | None) -> str:
    return "-" if axis is None else axis if isinstance(axis, str) else "+".join(axis)


def _local_bytes(x: jax.ShapeDtypeStruct) -> int:
    return math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize


def _bytes(count: float) -> str:
    return f"{quantity(count)}B"
