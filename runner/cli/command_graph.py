"""The graph that a command line names, its overrides applied."""

import fiddle as fdl

from runner.cli.flags import Command, Flag
from runner.errors import UserError
from runner.graph import describe, overrides, read
from runner.graph.job import Job
from runner.graph.names import public
from runner.workdir import opening


def resolve(command: Command) -> fdl.Buildable:
    """The graph a command line means: its base, then its overrides.

    Raises:
      UserError: the base is missing, an override is wrong, or the root is no job.
    """
    spec = _spec(command)
    cfg, module = read.read(spec)
    try:
        cfg = overrides.apply(
            cfg, [_override(flag) for flag in command.overrides], module=module
        )
        describe.lines(cfg)
    except (RecursionError, ValueError) as error:
        if isinstance(error, ValueError) and "cycle" not in str(error):  # fiddle's word
            raise
        raise UserError(
            f"{spec}: the graph holds itself, or is nested too deeply"
        ) from None
    check_job(cfg, spec)
    return cfg


def job(
    command: Command,
    cfg: fdl.Buildable,
    *,
    dry: bool = False,
    resumed: bool = False,
) -> Job:
    """Build the job of a resolved command line.

    Args:
      command: the command line, whose flag is named where it is the cause.
      cfg: its graph.
      dry: only shapes will be asked for, so files may be missing.
      resumed: the run goes on from its own checkpoint.

    Raises:
      UserError: as `build.job`; the flag without which the graph does not fail so
        comes first.
    """
    from runner.graph import build

    try:
        return build.job(cfg, dry=dry, resumed=resumed)
    except UserError as error:
        flag = _cause(command, str(error), dry=dry)
        if flag is None:
            raise
        raise UserError(f"{flag}: {error}") from error


def _cause(command: Command, message: str, *, dry: bool) -> Flag | None:
    """Return the first flag with which the graph fails so; None if it does anyway."""
    from runner.graph import build

    cfg, module = read.read(_spec(command))
    for flag in (None, *command.overrides):
        if flag is not None:
            cfg = overrides.apply(cfg, [_override(flag)], module=module)
        try:
            build.job(cfg, dry=dry)
        except UserError as error:
            if str(error) == message:
                return flag
    return None


def _spec(command: Command) -> str:
    return command.base or str(opening.saved_config(command.workdir or ""))


def _override(flag: Flag) -> overrides.Override:
    kind, _, name = flag.name.partition(".")
    if kind == "fdl" and name.endswith("+"):
        return overrides.Append(name[:-1], flag.value)
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
