"""Options of a target: fields of a frozen dataclass, given as `--name=value`."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from runner.errors import UserError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options common to all targets.

    Attributes:
      render_only: print the text; run and submit nothing.
      processes: processes of one unit.
      devices: accelerators of each process; 0 for all that are there.
      name: name of the launch; empty for the work directory's.
      env: `KEY=VALUE`, set for every process; repeatable.
    """

    render_only: bool = False
    processes: int = 1
    devices: int = 0
    name: str = ""
    env: tuple[str, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """`env` as a mapping."""
        return dict(pair.split("=", 1) for pair in self.env)

    def check(self, path: Path) -> None:
        """Refuse options that do not fit each other or the work directory.

        Called before the directory is written.

        Raises:
          UserError: names the option that does not.
        """
        if self.processes < 1:
            raise UserError(f"--processes must be at least 1, got {self.processes}")
        for pair in self.env:
            if not re.match(r"[A-Za-z_]\w*=", pair):
                raise UserError(f"--env={pair}: expected KEY=VALUE")


_OF_THE_RUN = ("fdl", "fiddler", "gin", "sweep", "workdir")
Kind = TypeVar("Kind", bound=Options)


def read(kind: type[Kind], arguments: Sequence[str], *, target: str) -> Kind:
    """Parse the options of a target.

    Args:
      kind: the target's class of options.
      arguments: the command line before `--`.
      target: the target's name, for messages.

    Raises:
      UserError: an unknown option, a missing or wrong value, or a required one left
        out; names the nearest.
    """
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for argument in arguments:
        # The option's name; flags of the run belong behind `--`.
        dashed, assigned, text = argument.partition("=")
        name = dashed.removeprefix("--").replace("-", "_")
        if name not in fields and name.startswith(_OF_THE_RUN):
            raise UserError(
                f"--{name} is of the run, and stands behind --: "
                f"python -m launch {target} [OPTIONS] -- {argument}"
            )
        if not dashed.startswith("--"):
            raise UserError(f"unexpected '{argument}'; expected --NAME=VALUE")
        if name not in fields:
            hint = nearest(name, fields)
            raise UserError(f"{target} has no option --{name}{hint}")
        # Its value; tuples collect repeated options.
        value = _value(name, hints[name], text, bool(assigned))
        if isinstance(value, tuple):
            values[name] = values.get(name, ()) + value
        elif name in values:
            raise UserError(f"--{name} is given more than once")
        else:
            values[name] = value
    # Options without a default.
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"{target} needs --{name}={field.metadata['example']}")
    return kind(**values)


def required(example: str) -> Any:
    """Return a field without a default; the example goes into the message."""
    return dataclasses.field(metadata={"example": example})


def _value(name: str, hint: Any, text: str, assigned: bool) -> Any:
    if hint is bool:
        if assigned:
            raise UserError(f"--{name} takes no value, got '{text}'")
        return True
    if not text:
        raise UserError(f"--{name} needs a value: --{name}=VALUE")
    if hint is int:
        if not text.isascii() or not text.isdigit():
            raise UserError(f"--{name} must be a whole number, got '{text}'")
        return int(text)
    return (text,) if hint == tuple[str, ...] else text
