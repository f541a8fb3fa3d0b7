"""Kubernetes: a JobSet for each unit, a pod of it for each process.

A pod that ends in 2, a mistake of the user's, fails its Job by `podFailurePolicy`, and
the JobSet with it: it is not tried again. Any other end, eviction and preemption among
them, restarts all the pods, which go on from the last checkpoint.
"""

import dataclasses
import json
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from launch import options, shell
from launch.spec import Spec, result
from runner.errors import UserError
from runner.sweeps import Unit

FILE = "jobset.yaml"
_JOB, _PORT = "process", 8476


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Options):
    """Options of the JobSet manifests.

    Attributes:
      image: built from `launch/Dockerfile`.
      volume: `CLAIM:PATH`, a claim that all pods may write and the path at which this
        machine and the pods mount it. The work directory lies below.
      accelerators: the resource that `devices` counts.
      node_selector: `KEY=VALUE`; repeatable.
      restarts: restarts allowed for each unit.
    """

    image: str = options.required("REGISTRY/retort:TAG")
    volume: str = options.required("CLAIM:/shared")
    accelerators: str = "nvidia.com/gpu"
    node_selector: tuple[str, ...] = ()
    restarts: int = 100

    @property
    def claim(self) -> str:
        """The claim's name."""
        return self.volume.partition(":")[0]

    @property
    def mount(self) -> str:
        """The path at which the claim is mounted."""
        return self.volume.partition(":")[2]

    def check(self, path: Path) -> None:
        super().check(path)
        if not self.claim or not self.mount.startswith("/"):
            raise UserError(f"--volume={self.volume}: expected CLAIM:/PATH")
        if not path.is_relative_to(self.mount):
            raise UserError(
                f"--volume={self.volume}: --workdir={path} is not below {self.mount}, "
                "so that no pod would see it"
            )
        for pair in self.node_selector:
            if "=" not in pair:
                raise UserError(f"--node_selector={pair}: expected KEY=VALUE")


def render(spec: Spec, options: Options) -> str:
    """Return the manifests, one for each unit."""
    numbers = range(len(spec.units))
    return "---\n".join(_manifest(spec, options, number) for number in numbers)


def submissions(spec: Spec, file: Path) -> list[Sequence[str]]:
    """The commands that hand `file` over."""
    return [("kubectl", "apply", f"--filename={file}")]


def _manifest(spec: Spec, options: Options, number: int) -> str:
    unit, name = spec.units[number], f"{spec.label}-{number:02d}"
    script = textwrap.indent(_script(spec, unit, name), " " * 22)
    # Text and no YAML library, so that the file reads as one would write it. Exit code
    # 2 is a mistake in the command, which another start does not mend; the pods' own
    # limit is 0, so that all of them start again together.
    return f"""\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}
  labels:
    app.kubernetes.io/part-of: {spec.label}
  annotations:
    retort/unit: {json.dumps(unit.name)}
spec:
  network:
    enableDNSHostnames: true
    publishNotReadyAddresses: true
  failurePolicy:
    maxRestarts: {options.restarts}
    rules:
      - name: mistake
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: {_JOB}
      replicas: 1
      template:
        spec:
          completionMode: Indexed
          parallelism: {spec.processes}
          completions: {spec.processes}
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: runner
                  operator: In
                  values: [2]
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 120
{_selector(options)}              containers:
                - name: runner
                  image: {json.dumps(options.image)}
                  ports:
                    - containerPort: {_PORT}
{_environment(spec)}{_resources(spec, options)}                  volumeMounts:
                    - name: shared
                      mountPath: {json.dumps(options.mount)}
                  command:
                    - /bin/sh
                    - -c
                    - |
{script}\
              volumes:
                - name: shared
                  persistentVolumeClaim:
                    claimName: {json.dumps(options.claim)}
"""


def _script(spec: Spec, unit: Unit, name: str) -> str:
    command = 'runner "$@"'
    if spec.processes > 1:
        command += (
            f" --gin.distributed.coordinator={name}-{_JOB}-0-0.{name}:{_PORT}"
            f" --gin.distributed.processes={spec.processes}"
            ' --gin.distributed.process="$JOB_COMPLETION_INDEX"'
        )
    return (
        f"unit={shlex.quote(unit.name)}\n"
        f"result={shlex.quote(str(result(unit)))}\n"
        f"set -- {shell.words(unit.arguments)}\n{shell.guarded(command)}"
    )


def _selector(options: Options) -> str:
    lines = []
    for pair in options.node_selector:
        key, _, value = pair.partition("=")
        lines.append(f"  {key}: {json.dumps(value)}")
    return _block("nodeSelector:", lines, 14)


def _environment(spec: Spec) -> str:
    return _block(
        "env:",
        [
            line
            for name, value in sorted(spec.environment.items())
            for line in (f"  - name: {name}", f"    value: {json.dumps(value)}")
        ],
        18,
    )


def _resources(spec: Spec, options: Options) -> str:
    limits = [f"    {options.accelerators}: {spec.devices}"] if spec.devices else []
    return _block("resources:", ["  limits:", *limits] if limits else [], 18)


def _block(head: str, lines: Sequence[str], indent: int) -> str:
    """Lines under their head; nothing where there are none."""
    if not lines:
        return ""
    return textwrap.indent("\n".join([head, *lines]) + "\n", " " * indent)
