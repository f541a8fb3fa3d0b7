"""The graph that a command line names, its overrides applied."""

import fiddle as fdl

from runner.cli.flags import Command, Flag
from runner.errors import UserError
from runner.graph import overrides, read
from runner.workdir import workdir


def resolve(command: Command) -> fdl.Buildable:
    """The graph a command line means: its base, then its overrides.

    Raises:
      UserError: the base is missing, an override is wrong, or the root is no job.
    """
    spec = command.base or str(workdir.saved_config(command.workdir or ""))
    cfg, module = read.read(spec)
    cfg = overrides.apply(
        cfg, [_override(flag) for flag in command.overrides], module=module
    )
    check_job(cfg, spec)
    return cfg


def _override(flag: Flag) -> overrides.Override:
    kind, _, name = flag.name.partition(".")
    if kind == "fdl":
        return overrides.Set(name, flag.value)
    if kind == "fdl_tag":
        return overrides.SetTag(name, flag.value)
    return overrides.Fiddle(flag.value)


def check_job(cfg: fdl.Buildable, spec: str) -> None:
    """Refuses a graph whose root cannot be run.

    Raises:
      UserError: it is a class without `run`.
    """
    job = fdl.get_callable(cfg)
    if isinstance(cfg, fdl.Partial) or (
        isinstance(job, type) and not hasattr(job, "run")
    ):
        raise UserError(
            f"{spec}: the root is {job.__name__}, which has no run(workdir); "
            "expected a job such as runner.Experiment"
        )
