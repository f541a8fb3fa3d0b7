"""Reports shapes, shardings, FLOPs, memory and communication without training.

The devices may be absent: with `mesh.topology` in gin the step is compiled for what a
run is meant for. See docs/layouts.md.
"""

from runner import runtime
from runner.dry_run import counts, layout, memory, traffic
from runner.dry_run.compiling import attempt
from runner.errors import UserError
from runner.experiment import Experiment
from runner.graph.job import Job
from runner.machine import mesh, topology


def report(job: Job) -> None:
    """Print what `--dry_run` promises; the step is compiled and not run.

    Raises:
      UserError: the job is no experiment, or its parts do not fit each other.
    """
    if not isinstance(job, Experiment):
        raise UserError(f"--dry_run: {type(job).__name__} has no step to compile")
    config = runtime.current()
    mesh.split_cpu(config.mesh)
    planned = topology.planned(config.mesh.topology)
    setup = job.prepare(config, planned=planned)
    setup.trace()
    for caution in setup.cautions:
        print(caution, end="\n\n")
    print("\n".join(layout.batch(setup, planned)), end="\n\n")
    for section in (counts.table, layout.parameters):
        print("\n".join(section(setup)), end="\n\n")
    compiled = attempt(setup, planned)
    print("\n".join(layout.machine(setup, planned)))
    print("\n".join(layout.cost(setup, planned, compiled)), end="\n\n")
    print("\n".join(memory.table(setup, planned, compiled)), end="\n\n")
    print("\n".join(traffic.table(setup, compiled)))
