"""SkyPilot: a managed job for each unit, a node of it for each process.

A preempted job starts again, on another machine if need be, from the bucket that its
work directory lies in. A job that ends by itself in another code than 0 is not tried
again.
"""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

from launch import options, shell
from launch.spec import Spec

FILE = "skypilot.yaml"
_PORT = 8476
_FROZEN = "/tmp/retort-frozen"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Options):
    """Options of the SkyPilot task.

    Attributes:
      image: built from `launch/Dockerfile`.
      bucket: the sweep's bucket; each job copies the frozen files into it.
      accelerators: the kind that `devices` counts.
      infra: a cloud, such as `gcp/us-central1`.
      spot: use preemptible machines.
    """

    image: str = options.required("REGISTRY/retort:TAG")
    bucket: str = options.required("s3://NAME")
    accelerators: str = ""
    infra: str = ""
    spot: bool = False


def render(spec: Spec, options: Options) -> str:
    """Return a task that runs the unit of number `$SWEEP_UNIT`."""
    script = textwrap.indent(_script(spec), "  ")
    environment = "".join(
        f"  {name}: {json.dumps(value)}\n"
        for name, value in sorted(spec.environment.items())
    )
    return f"""\
name: {spec.label}
num_nodes: {spec.processes}
resources:
{_resources(spec, options)}\
envs:
  SWEEP_UNIT: "0"
{environment}\
file_mounts:
  {_FROZEN}: {json.dumps(str(spec.path))}
  {json.dumps(str(spec.path))}:
    source: {json.dumps(options.bucket)}
    mode: MOUNT
run: |
{script}"""


def submissions(spec: Spec, file: Path) -> list[Sequence[str]]:
    """The commands that hand `file` over, one a unit."""
    command = ("sky", "jobs", "launch", "--yes", "--detach-run")
    return [
        (
            *command,
            f"--name={spec.label}-{number:02d}",
            f"--env=SWEEP_UNIT={number}",
            str(file),
        )
        for number, unit in enumerate(spec.units)
        if not unit.finished
    ]


def _resources(spec: Spec, options: Options) -> str:
    lines = {"image_id": json.dumps(f"docker:{options.image}")}
    if options.accelerators:
        count = spec.devices or 1
        lines["accelerators"] = json.dumps(f"{options.accelerators}:{count}")
    if options.infra:
        lines["infra"] = json.dumps(options.infra)
    lines["use_spot"] = json.dumps(options.spot)
    return "".join(f"  {name}: {value}\n" for name, value in lines.items())


def _script(spec: Spec) -> str:
    command = 'runner "$@"'
    if spec.processes > 1:
        command += (
            f' --gin.distributed.coordinator="$first:{_PORT}"'
            f" --gin.distributed.processes={spec.processes}"
            ' --gin.distributed.process="$SKYPILOT_NODE_RANK"'
        )
    first = 'first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n'
    return (
        shell.choose(spec.units, "SWEEP_UNIT")
        + f"cp -r --no-clobber {_FROZEN}/. {shell.words([str(spec.path)])}\n"
        + (first if spec.processes > 1 else "")
        + shell.guarded(command)
    )
