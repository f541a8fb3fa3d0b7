"""The graph that a command starts from: a config file's, or a saved one."""

import types

import fiddle as fdl

from runner import workdir
from runner.errors import UserError
from runner.flags import Command, Flag
from runner.graph import overrides, source


def resolve(command: Command) -> fdl.Buildable:
    """The graph a command line means: its base, then its overrides.

    Raises:
      UserError: the base is missing, an override is wrong, or the root is no job.
    """
    spec = command.base or str(workdir.saved_config(command.workdir or ""))
    cfg, module = read(spec)
    cfg = overrides.apply(
        cfg, [_override(flag) for flag in command.overrides], module=module
    )
    check_job(cfg, spec)
    return cfg


def read(spec: str) -> tuple[fdl.Buildable, types.ModuleType | None]:
    """The graph `spec` names, and the file whose functions may change it.

    spec: `path.py`, `path.py:function`, `path.py:function(num_steps=5)` or `path.json`.

    Raises:
      UserError: there is no such file or function, or it makes no graph.
    """
    path, expression = source.split(spec)
    if path.endswith(".json"):
        from runner.graph import saved

        return saved.load(path), None
    module = source.load(path)
    call = source.Call.parse(expression or "config")
    function = source.find(module, call.name, what="function")
    cfg = source.call(module, function, call=call)
    if not isinstance(cfg, fdl.Buildable):
        raise UserError(
            f"{path}: {call.name}() made {type(cfg).__name__}, not a graph; "
            "decorate it with @auto_config"
        )
    return cfg, module


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
