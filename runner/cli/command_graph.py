"""The graph that a command line names, its overrides applied."""

import fiddle as fdl

from runner.cli.flags import Command, Flag
from runner.errors import UserError
from runner.graph import overrides, read
from runner.graph.job import Job
from runner.graph.names import public
from runner.workdir import opening


def resolve(command: Command) -> fdl.Buildable:
    """The graph a command line means: its base, then its overrides.

    Raises:
      UserError: the base is missing, an override is wrong, or the root is no job.
    """
    spec = command.base or str(opening.saved_config(command.workdir or ""))
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
    """Refuse a graph whose root is no job.

    What a function as root returns is checked where the graph is built.

    Raises:
      UserError: the root is another class, or lacks arguments (a `Partial`).
    """
    root = fdl.get_callable(cfg)
    if isinstance(cfg, fdl.Partial) or (
        isinstance(root, type) and not issubclass(root, Job)
    ):
        raise UserError(
            f"{spec}: the root is {public(root)}, which is no runner job; "
            "expected one such as runner.Experiment"
        )
