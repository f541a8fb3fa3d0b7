"""xpk: the JobSets of a GKE cluster with TPUs, made by Google's own tool.

One workload a unit. The type of the TPU says how many processes there are, and JAX
finds them (`--gin.distributed.detect=True`). xpk restarts what ends in 42 or in 127 and
above, which a stopped run does (143); a mistake of the user's ends in 2.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from launch import options, shell
from launch.spec import Spec, result
from runner.errors import UserError
from runner.sweeps import Unit

FILE = "xpk.sh"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Options):
    """Options of `xpk workload create`.

    Attributes:
      cluster: the cluster's name.
      image: built from `launch/Dockerfile`, with `JAX_EXTRA=tpu`.
      accelerators: the type of a slice.
      slices: slices of one unit.
      restarts: restarts allowed for each unit.
      xpk: any other flag, such as `--zone=us-central2-b`; repeatable.
    """

    cluster: str = options.required("NAME")
    image: str = options.required("REGISTRY/retort:TAG")
    accelerators: str = options.required("v5litepod-256")
    slices: int = 1
    restarts: int = 100
    xpk: tuple[str, ...] = ()

    def check(self, path: Path) -> None:
        super().check(path)
        if self.processes != 1 or self.devices:
            raise UserError(
                f"xpk takes neither --processes nor --devices: {self.accelerators} "
                "says how many there are; --slices=N asks for more of them"
            )


def render(spec: Spec, options: Options) -> str:
    """Return a script of `xpk workload create`."""
    workloads = "\n".join(
        _workload(spec, options, unit, f"{spec.label}-{number:02d}")
        for number, unit in enumerate(spec.units)
    )
    return f"""\
#!/bin/bash
# What stands in single quotes is for the pods to expand.
# shellcheck disable=SC2016
set -e

{workloads}"""


def submissions(spec: Spec, file: Path) -> list[Sequence[str]]:
    """The commands that hand `file` over."""
    return [("bash", str(file))]


def _workload(spec: Spec, options: Options, unit: Unit, name: str) -> str:
    flags = [
        f"--workload={name}",
        f"--cluster={options.cluster}",
        f"--tpu-type={options.accelerators}",
        f"--num-slices={options.slices}",
        f"--docker-image={options.image}",
        f"--max-restarts={options.restarts}",
        "--termination-grace-period-seconds=120",
        *(f"--env={key}={value}" for key, value in sorted(spec.environment.items())),
        *options.xpk,
        f"--command={_script(unit)}",
    ]
    return f"xpk workload create \\\n  {shell.words(flags)}\n"


def _script(unit: Unit) -> str:
    """One line: xpk puts it into a line of a manifest of its own."""
    return shell.one_line(
        f"unit={shlex.quote(unit.name)}\n"
        f"result={shlex.quote(str(result(unit)))}\n"
        f"set -- {shell.words(unit.arguments)}\n"
        + shell.guarded('runner "$@" --gin.distributed.detect=True')
    )
