"""Command-line flags: one left-to-right pass over argv, and nothing imported for it."""

import dataclasses
import difflib
import re
from collections.abc import Iterator, Sequence

from runner.errors import UserError, nearest
from runner.files import remote

# Flags with a value, of which each may stand once, and so on.
VALUED = ("fdl_config", "fdl_config_file", "sweep", "workdir", "diff", "graph")
VALUED = (*VALUED, "list", "describe", "seeds", "baseline")
REPEATED = ("fiddler", "gin_file", "gin_bindings")
EITHER = ("evaluate", "trust")  # with a value or without
BARE = ("print_config", "dry_run", "help", "version", "begin_anew")
_PREFIXES = ("fdl.", "fdl_tag.", "gin.")
_ACTIONS = ("print_config", "diff", "graph", "dry_run", "list", "describe", "evaluate")
NAMES = (*VALUED, *REPEATED, *EITHER, *BARE)
_COMMANDS = {"report": "runner report"}
_COMMANDS |= {name: f"runner-{name}" for name in ("export", "records", "sample")}
LOOKED_UP = ("list", "describe")  # actions that need no graph


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag; `name` has no dashes: `fdl.num_steps`, `workdir`."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"--{self.name}={self.value}" if self.value else f"--{self.name}"


@dataclasses.dataclass(frozen=True)
class Command:
    """A parsed command line.

    Attributes:
      config: `--fdl_config`, the config file of the experiment.
      config_file: `--fdl_config_file`, a saved graph.
      sweep: a function of the config file that returns the points; may have arguments.
      seeds: a run for each of so many seeds, at every point.
      baseline: the setting that seeds are compared with.
      workdir: the work directory.
      overrides: `fdl.*`, `fdl_tag.*` and `fiddler`, in order.
      runtime: `gin.*`, `gin_file` and `gin_bindings`, in order.
      trust: a frozen sweep may run the Python that it brings, and reach outside.
      packages: whose names a saved graph may hold, `--trust=PACKAGE`.
      begin_anew: begin at step 0 where every checkpoint is damaged.
      action: what to do instead of training; its value is empty where it takes none.
    """

    config: str | None = None
    config_file: str | None = None
    sweep: str | None = None
    seeds: int | None = None
    baseline: str | None = None
    workdir: str | None = None
    overrides: tuple[Flag, ...] = ()
    runtime: tuple[Flag, ...] = ()
    trust: bool = False
    packages: tuple[str, ...] = ()
    begin_anew: bool = False
    action: Flag | None = None

    @property
    def sweeps(self) -> bool:
        """True for a run at each point or seed."""
        return self.sweep is not None or self.seeds is not None

    @property
    def base(self) -> str | None:
        """The config file or saved graph, if one is named."""
        return self.config or self.config_file


def parse(arguments: Sequence[str]) -> Command:
    """Parse `arguments`, argv without the program.

    Raises:
      UserError: an unknown flag, a missing value, or flags that exclude each other.
    """
    flags = list(_split(arguments))
    for name in ("help", "version"):
        if Flag(name) in flags:
            return Command(action=Flag(name))
    for flag in flags:
        remote.refuse(f"--{flag.name}", flag.value)
    # Overrides keep their order: each is applied to what those before it left.
    once = {name: _only(flags, name) for name in VALUED}
    actions = [flag for flag in flags if flag.name in _ACTIONS]
    command = Command(
        config=once["fdl_config"],
        config_file=once["fdl_config_file"],
        sweep=once["sweep"],
        seeds=_seeds(once["seeds"]),
        baseline=once["baseline"],
        workdir=once["workdir"],
        overrides=tuple(
            f for f in flags if f.name.startswith(("fdl.", "fdl_tag.", "fiddler"))
        ),
        runtime=tuple(f for f in flags if f.name.startswith("gin")),
        trust=Flag("trust") in flags,
        packages=tuple(f.value for f in flags if f.name == "trust" and f.value),
        begin_anew=Flag("begin_anew") in flags,
        action=actions[0] if actions else None,
    )
    _refuse_conflicts(command, actions)
    return command


def _split(arguments: Sequence[str]) -> Iterator[Flag]:
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in ("-h", "-help"):
            argument = "--help"
        dashed, assigned, value = argument.partition("=")
        if not dashed.startswith("--") or dashed == "--":
            raise UserError(_not_a_flag(argument))
        name = dashed.removeprefix("--")
        if name in EITHER and (value or not assigned):
            yield Flag(name, value)
            continue
        if name in BARE:
            if assigned:
                raise UserError(f"--{name} takes no value, got '{value}'")
            yield Flag(name)
            continue
        if name not in VALUED + REPEATED:
            _refuse_unknown(name)
        # `--flag value`: the next argument, unless it is a flag itself.
        if not assigned:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{name} needs a value: --{name}={_example(name)}")
            value = rest.pop(0)
        if not value and name in VALUED + REPEATED:
            raise UserError(f"--{name} needs a value: --{name}={_example(name)}")
        yield Flag(name, value)


def _refuse_unknown(name: str) -> None:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            if name == prefix:
                raise UserError(f"--{name} needs a name: --{name}{_example(name)}")
            return
    stem = re.split(r"[.\[]", name)[0]
    hint = nearest(name if "." not in name else stem, NAMES)
    if stem in ("fdl", "fdl_tag", "gin"):
        hint = f"; write --{stem}.name=value"
    raise UserError(f"unknown flag --{name}{hint} (--help lists them)")


def _not_a_flag(argument: str) -> str:
    if argument.endswith(".py"):
        return f"unexpected '{argument}'; did you mean --fdl_config={argument}?"
    if argument.startswith("-") and len(argument) > 2:
        return f"unknown flag {argument}; flags begin with two dashes"
    close = difflib.get_close_matches(argument, _COMMANDS, n=1)
    if close:
        return f"unexpected '{argument}'; did you mean {_COMMANDS[close[0]]}?"
    return f"unexpected '{argument}'; expected flags such as --workdir=DIR"


def _example(name: str) -> str:
    examples = {
        "fdl_config": "configs/moe.py",
        "fdl_config_file": "DIR/config.json",
        "sweep": "lr",
        "seeds": "5",
        "baseline": "z_loss.weight=0.0",
        "workdir": "DIR",
        "diff": "configs/moe.py",
        "graph": "graph.svg",
        "list": "losses",
        "evaluate": "held_out",
        "describe": "losses.ForwardKL",
        "fiddler": "'bigger(factor=2)'",
        "gin_file": "configs/runtime/cpu.gin",
        "gin_bindings": "'loop.log_every = 50'",
        "fdl.": "num_steps=200",
        "fdl_tag.": "DType=bfloat16",
        "gin.": "loop.log_every=50",
    }
    return examples.get(name, "VALUE")


def _only(flags: Sequence[Flag], name: str) -> str | None:
    values = [flag.value for flag in flags if flag.name == name]
    if len(values) > 1:
        raise UserError(f"--{name} is given {len(values)} times: {', '.join(values)}")
    return values[0] if values else None


def _seeds(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 2 <= int(value[:6]) <= 1000):
        raise UserError(f"--seeds={value}: expected a number from 2 to 1000")
    return int(value)


def _refuse_unknown_name(command: Command, action: Flag) -> None:
    from runner.cli import lookups

    if action.name == "list":
        lookups.check_kind(action.value)
    elif not (command.base or command.packages or command.workdir):
        lookups.check_name(action.value)


def _refuse_conflicts(command: Command, actions: Sequence[Flag]) -> None:
    # Too many flags.
    if command.config and command.config_file:
        raise UserError(
            "--fdl_config and --fdl_config_file both name the graph; give one"
        )
    if command.sweep and not command.config:
        raise UserError(
            f"--sweep={command.sweep} is a function of a config file; give "
            "--fdl_config=configs/NAME.py (--workdir=DIR alone goes on with a sweep)"
        )
    if command.seeds and not command.base:
        raise UserError(
            f"--seeds={command.seeds} begins a sweep; give "
            "--fdl_config=configs/NAME.py (--workdir=DIR alone goes on with one)"
        )
    if command.baseline and not command.sweeps:
        raise UserError(
            f"--baseline={command.baseline} compares settings over seeds; give "
            "--seeds=5 or a --sweep with fdl.seed"
        )
    if len(actions) > 1:
        both = " and ".join(f"--{flag.name}" for flag in actions[:2])
        raise UserError(f"{both} are given; give one")
    # Too few.
    if actions and actions[0].name in LOOKED_UP:
        return _refuse_unknown_name(command, actions[0])
    if not command.base and not command.workdir:
        raise UserError(
            "no experiment; give --fdl_config=configs/NAME.py (--help has examples)"
        )
    if not command.workdir and not actions:
        raise UserError(
            "no place for the results; give --workdir=DIR (--print_config only looks)"
        )
    if actions and actions[0].name == "evaluate" and not command.workdir:
        raise UserError(f"{actions[0]} measures a run; give its --workdir=DIR")
    # Flags whose values do not fit.
    if command.sweeps and actions and actions[0].name != "print_config":
        raise UserError(
            f"{actions[0]} looks at one graph, not at a sweep; "
            "--print_config lists what a sweep would run"
        )
    graph = command.action
    if graph and graph.name == "graph" and not graph.value.endswith(".svg"):
        raise UserError(f"{graph}: expected a file name that ends in .svg")
