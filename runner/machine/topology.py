"""Target topologies for ahead-of-time compilation.

v5e:16x16   a grid of TPUs, as libtpu names it; v5p:4x4x4, v6e:8x8
h100:8      so many GPUs
cpu:256     so many devices of a CPU
"""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from runner.errors import UserError, nearest

GB, GIB = 10**9, 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of device.

    Attributes:
      kind: JAX's name of it, or the first part of that name.
      memory: Bytes of its own; 0 where it has none.
      pod: The first part of a TPU's accelerator types; empty for other devices.
    """

    kind: str
    memory: int
    pod: str = ""

    @property
    def platform(self) -> str:
        """Its `models.sharding.platform`."""
        return "cpu" if self.kind == "cpu" else "tpu" if self.pod else "cuda"


CHIPS: Mapping[str, Chip] = {
    "a100": Chip("NVIDIA A100", 80 * GB),
    "a100_40": Chip("NVIDIA A100-SXM4-40GB", 40 * GB),
    "b200": Chip("NVIDIA B200", 180 * GB),
    "cpu": Chip("cpu", 0),
    "h100": Chip("NVIDIA H100", 80 * GB),
    "h200": Chip("NVIDIA H200", 141 * GB),
    "v5e": Chip("TPU v5 lite", 16 * GIB, "v5litepod"),
    "v5p": Chip("TPU v5", 95 * GIB, "v5p"),
    "v6e": Chip("TPU v6 lite", 32 * GIB, "v6e"),
}
"""Memory by NVIDIA's data sheets and Google's pages on TPU versions."""

# A CPU multiplies bfloat16 in float32, and would keep a float32 copy of the weights of
# all layers, made once before the loop over them. No device that it stands for does.
_AS_ELSEWHERE = {
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion,"
    "while-loop-expensive-invariant-code-motion"
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A number of chips of one kind.

    Attributes:
      name: As in `mesh.topology`: `v5e:16x16`.
      chip: Their kind.
      count: How many there are.
    """

    name: str
    chip: Chip
    count: int

    def __str__(self) -> str:
        return f"{self.count} x {self.chip.kind}"


@dataclasses.dataclass(frozen=True)
class Planned:
    """Devices to compile for.

    Attributes:
      devices: JAX devices, though none of them need exist.
      chip: The chip that they stand for, where it is known.
      caveat: Limits of the compiler's numbers, in lines.
      options: Options of the compiler.
    """

    devices: Sequence[Any]
    chip: Chip | None
    caveat: str = ""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse(name: str) -> Topology:
    """Return the topology of that name.

    Raises:
      UserError: No chip is called so, or its number is none.
    """
    chip, _, size = name.partition(":")
    if chip not in CHIPS:
        raise UserError(f"mesh.topology: no chip '{chip}'{nearest(chip, CHIPS)}")
    form = r"[1-9]\d*(x[1-9]\d*)+" if CHIPS[chip].pod else r"[1-9]\d*"
    if not re.fullmatch(form, size):
        example = "16x16" if CHIPS[chip].pod else "8"
        raise UserError(
            f"mesh.topology: '{name}' names no number of chips; write {chip}:{example}"
        )
    count = math.prod(int(n) for n in size.split("x"))
    return Topology(name, CHIPS[chip], count)


def check(name: str, devices: Sequence[Any]) -> None:
    """Refuse a run on other devices than it is meant for.

    Raises:
      UserError: With both.
    """
    target = parse(name)
    kind = devices[0].device_kind
    if len(devices) != target.count or not kind.startswith(target.chip.kind):
        raise UserError(
            f"mesh.topology: {name} is {target}; here are {len(devices)} x {kind} "
            "(--dry_run lays the step out without them)"
        )


def chip_of(device: Any) -> Chip | None:
    """Return the chip that a device is, if it is known."""
    matches = [c for c in CHIPS.values() if device.device_kind.startswith(c.kind)]
    return max(matches, key=lambda chip: len(chip.kind), default=None)


def planned(name: str) -> Planned:
    """Return devices of that name to compile for; those at hand for an empty name.

    TPUs through libtpu, where it is installed; anything else on a CPU that is split
    into as many devices.

    Raises:
      UserError: The name is none, or the CPU is split another way already.
    """
    if not name:
        return Planned(jax.devices(), chip_of(jax.devices()[0]))
    target = parse(name)
    with_libtpu = importlib.util.find_spec("libtpu") is not None
    if target.chip.pod and with_libtpu:
        return Planned(
            _tpus(target), target.chip, "not here: compiled by the compiler for them"
        )
    caveat = (
        f"faked by the CPU: partitioned for {target.count} devices, memory as the "
        "CPU's compiler plans it, bfloat16 sent as float32"
    )
    if target.chip.pod:
        caveat += "\nwith libtpu, pip install -e '.[tpu]', by the TPU's own compiler"
    return Planned(_cpus(target), target.chip, caveat, _AS_ELSEWHERE)


def _tpus(target: Topology) -> Sequence[Any]:
    from jax.experimental import topologies

    # A machine without TPUs is not to look for them, nor to complain that it has none.
    jax.config.update("jax_platforms", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{target.chip.pod}-{target.count}")
    try:
        description = topologies.get_topology_desc(target.name, platform="tpu")
    except Exception as error:  # whatever libtpu throws
        first = str(error).splitlines()[0]
        raise UserError(f"mesh.topology: {target.name}: {first}") from error
    return description.devices


def _cpus(target: Topology) -> Sequence[Any]:
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", target.count)
    except RuntimeError:  # jax is in use already
        devices = jax.devices("cpu")
        if len(devices) < target.count:
            raise UserError(
                f"mesh.topology: {target.name} wants {target.count} devices of the "
                f"CPU, which is split into {len(devices)} already"
            ) from None
    return jax.devices("cpu")[: target.count]
