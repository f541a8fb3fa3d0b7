"""Memory that a step takes on a CPU, compared with this machine's before any is taken.

An accelerator refuses what it does not hold. Linux grants a process more memory than
there is, and kills it, without a word, once it is used (exit code 137).
"""

from pathlib import Path
from typing import Any

import jax

from runner.errors import UserError
from runner.head.flops import inner_jaxprs
from runner.machine import out_of_memory

_GROUPS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def refuse_what_is_too_large(program: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse a program that takes more than all memory of this machine.

    It is compiled for the answer only where the arrays that it writes would not fit
    beside one another: nearly all runs pay for a walk over its equations.

    Args:
      program: A jitted function.
      arguments: Their shapes, dtypes and shardings.

    Raises:
      UserError: It does; with the bytes of both.
    """
    room = total()
    if room is None or jax.default_backend() != "cpu":
        return
    traced, devices = program.trace(*arguments), jax.local_device_count()
    if devices * _written(traced.jaxpr.jaxpr) <= room:
        return
    analysis = traced.lower().compile().memory_analysis()
    wanted = devices * (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
    )
    if wanted > room:
        raise UserError(
            f"out of memory: a step takes {wanted:,} bytes, and this machine has "
            f"{room:,}; {out_of_memory.ADVICE}"
        )


def total() -> int | None:
    """Return the bytes of memory and swap that there are here; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {
            name: rest for name, _, rest in (line.partition(":") for line in lines)
        }
        kilobytes = [int(sizes[name].split()[0]) for name in ("MemTotal", "SwapTotal")]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return min([1024 * sum(kilobytes), *_limits()])


def _limits() -> list[int]:
    """Return the limits of the control group of this process, as in a container."""
    limits = []
    for file in map(Path, _GROUPS):
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # not there; "max"
            continue
    return limits


def _written(jaxpr: Any) -> int:
    """Return the bytes of its inputs and of all that it writes, loop bodies once."""
    inputs = sum(_bytes(x.aval) for x in jaxpr.invars)
    outputs = sum(_bytes(x.aval) for one in jaxpr.eqns for x in one.outvars)
    inner = (_written(body) for one in jaxpr.eqns for body in inner_jaxprs(one.params))
    return inputs + outputs + sum(inner)


def _bytes(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    return 0 if dtype is None else aval.size * dtype.itemsize
