"""The device mesh, and where batches and parameters lie on it."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from runner import runtime
from runner.errors import UserError
from runner.machine import heap, topology

AXES = ("data", "fsdp", "tensor", "expert")
BATCH_AXES = ("data", "fsdp", "expert")


def make(config: runtime.Mesh) -> jax.sharding.Mesh:
    """Return a mesh over all devices with the axes data, fsdp, tensor and expert.

    Raises:
      UserError: The sizes do not multiply to the number of devices, or these are others
        than the config is meant for.
    """
    split_cpu(config)
    devices = jax.devices()
    if devices[0].platform != "cpu":  # where the temporaries are
        heap.give_back()
    if config.topology:
        topology.check(config.topology, devices)
    return over(config, devices)


def over(config: runtime.Mesh, devices: Sequence[Any]) -> jax.sharding.Mesh:
    """Return the mesh of `make` over these devices, which need not exist.

    Raises:
      UserError: The sizes do not multiply to their number.
    """
    return jax.make_mesh(
        sizes(config, len(devices)),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices,
    )


def split_cpu(config: runtime.Mesh) -> None:
    """Split the CPU into `num_cpu_devices`; an error after the first use of JAX.

    Of several processes, the CPU of each.
    """
    if config.num_cpu_devices:
        jax.config.update("jax_num_cpu_devices", config.num_cpu_devices)


def sizes(config: runtime.Mesh, devices: int) -> tuple[int, ...]:
    """Return the devices along each of `AXES`, with the one -1 filled in.

    Raises:
      UserError: The sizes do not multiply to `devices`.
    """
    lengths = [config.data, config.fsdp, config.tensor, config.expert]
    named = ", ".join(f"mesh.{a}={n}" for a, n in zip(AXES, lengths, strict=True))
    if lengths.count(-1) > 1 or any(n < 1 and n != -1 for n in lengths):
        raise UserError(f"{named}: each must be at least 1, and at most one -1")
    product = math.prod(n for n in lengths if n != -1)
    filled = [devices // product if n == -1 else n for n in lengths]
    if math.prod(filled) != devices:
        raise UserError(f"{named}: does not multiply to the {devices} devices here")
    return tuple(filled)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over data, fsdp and expert."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of an array that is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_shards(mesh: jax.sharding.Mesh) -> int:
    """Return the number of parts into which the batch is cut."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def check_batch(
    name: str, size: int, mesh: jax.sharding.Mesh, *, microbatches: int = 1
) -> None:
    """Refuse a batch that does not divide over microbatches and devices.

    Args:
      name: The field that holds `size`, for the message.
      size: Rows in a global batch.
      mesh: The devices.
      microbatches: Parts that each device works off in turn.

    Raises:
      UserError: With the nearest size that divides.
    """
    unit = microbatches * batch_shards(mesh)
    if size % unit:
        nearest = max(round(size / unit), 1) * unit
        raise UserError(
            f"{name}: {size} does not divide into {microbatches} microbatches over "
            f"{batch_shards(mesh)} devices; the nearest that does is {nearest}"
        )
