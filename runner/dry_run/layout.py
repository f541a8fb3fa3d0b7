"""Devices, batch, parameters with their shardings, and FLOPs of a run."""

from collections.abc import Iterator

import jax

from models import sharding
from runner.dry_run.compiling import Attempt
from runner.dry_run.memory import aligned, local, local_bytes, size
from runner.head import flops
from runner.machine.mesh import AXES
from runner.machine.topology import Planned
from runner.train.setup import Setup
from runner.weights.base import UNREAD
from runner.writers.quantities import quantity


def machine(setup: Setup, planned: Planned) -> Iterator[str]:
    """Devices and mesh."""
    shape = " ".join(f"{axis}={setup.mesh.shape[axis]}" for axis in AXES)
    kind = planned.devices[0].device_kind
    if planned.caveat and planned.chip is not None:
        kind = planned.chip.kind
    yield f"devices     {setup.mesh.size} x {kind}, mesh {shape}"
    for line in planned.caveat.splitlines():
        yield f"            {line}"


def batch(setup: Setup, planned: Planned) -> Iterator[str]:
    """The global batch and how it is cut."""
    # Its size, and how it is cut.
    rows, length = setup.batch_size, setup.dataset.targets_per_row
    step, unit = setup.config.step, setup.dataset.unit
    cut = f"{rows} sequences x {length} = " if length > 1 else ""
    yield f"batch       {cut}{rows * length:,} {unit}s per step"
    yield (
        f"            microbatches {step.microbatches}, remat {step.remat}, "
        f"head {setup.step.head_plan(setup.abstract_batch())}"
    )
    student = setup.modules.abstract_student()
    with sharding.use(setup.mesh, setup.config.mesh.rules):
        form = student.trunk_form(length)
    # Where a CPU stands for other devices, they may compute it another way.
    chip = planned.chip
    there = student.trunk_form(length, chip.platform) if chip else form
    if there != form:
        form = f"{there}; compiled here as {form}"
    if form:
        yield f"            {form}"

    # Its arrays, and what they are read for before the gradients.
    for name, x in setup.abstract_batch().items():
        yield f"            {name:<12} {x.dtype!s:<6} {_shape(x)}"
    passes = [name for name, yes in setup.step.objective.prepass.passes.items() if yes]
    of_parameters = "parameter gradients"
    if of_parameters in passes:
        passes.remove(of_parameters)
        yield (
            f"            {of_parameters} of each term are wanted first: a pass of "
            "head and trunk more a term"
        )
    if passes:
        which = "head and trunk" if step.microbatches > 1 else "head"
        yield (
            f"            {' and '.join(passes)} of the global batch are wanted first: "
            f"a pass of the {which} more each"
        )


def parameters(setup: Setup) -> Iterator[str]:
    """Every trained array and where it lies."""
    # The student's arrays, a line each.
    rows = [("parameter", "shape", "dtype", "size", "sharding", "bytes per device")]
    state = setup.step.state
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    for path, x in leaves:
        rows.append(
            (
                "/".join(key.key for key in path),
                _shape(x),
                str(x.dtype),
                f"{x.size:,}",
                ", ".join(_axis(axis) for axis in x.sharding.spec) or "replicated",
                f"{local_bytes(x):,}",
            )
        )
    yield from aligned(rows, numbers=(3, 5))

    # Sums: of the student, and of a teacher beside it.
    count = sum(x.size for _, x in leaves)
    optimizer = size(local(state.opt_state))
    yield f"{count:,} parameters; optimiser state {optimizer} per device"
    frozen = setup.modules.frozen(state.variables)
    if frozen:
        count, lies = sum(x.size for x in frozen.values()), size(local(frozen))
        yield (
            f"{count:,} frozen parameters, {lies} per device: without gradient and "
            "optimiser state"
        )
    teacher = setup.step.teacher
    if teacher is not None:
        arrays = jax.tree.leaves(teacher.abstract)
        count, lies = sum(x.size for x in arrays), size(local(arrays))
        has = f"{count:,} parameters, {lies} per device" if arrays else "no parameters"
        description = teacher.describe()
        unseen = (
            "; its files were not looked at"
            if description.get("weights") == UNREAD
            else ""
        )
        yield f"{description['kind']} teacher: {has} beside the student's{unseen}"


def cost(setup: Setup, planned: Planned, attempt: Attempt) -> Iterator[str]:
    """FLOPs from the jaxpr, and how long the compiler took."""
    count = setup.flops_per_step()
    each = f"{count // setup.targets_per_step:,} per {setup.dataset.unit}"
    bound = flops.is_lower_bound(setup.step.compiled, *setup.abstract_arguments())
    least = "at least " if bound else ""
    yield f"FLOPs       {least}{quantity(count)} in matmuls per step, {each}"
    kind = planned.chip.kind if planned.chip else planned.devices[0].device_kind
    peak = flops.peak_of_kind(kind)
    if peak is not None:
        total_peak = peak * setup.mesh.size
        yield (
            f"            {quantity(total_peak)} per second at peak: "
            f"at least {count / total_peak:.2g} s per step"
        )
    yield f"compiled    in {attempt.seconds:.0f} s, not run"


def _shape(x: jax.ShapeDtypeStruct) -> str:
    return "[" + " ".join(map(str, x.shape)) + "]"


def _axis(axis: str | tuple[str, ...] | None) -> str:
    return "-" if axis is None else axis if isinstance(axis, str) else "+".join(axis)
