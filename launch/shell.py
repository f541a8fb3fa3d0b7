"""Pieces of shell that more than one target is made of.

A scheduler sees exit codes alone, and `runner` ends with 0 also when it was stopped and
has saved a checkpoint. So each command is wrapped: 0 means that `result.json` is there.
"""

import re
import shlex
import textwrap
from collections.abc import Iterable, Sequence

from launch.spec import Spec, result
from runner.sweeps import Unit

STOPPED = 143  # What a shell says of a program that SIGTERM ended.
UNLESS_FINISHED = """\
if [ -e "$result" ]; then
  echo "$unit: finished"
  exit 0
fi
"""


def words(arguments: Iterable[str], indent: str = "  ") -> str:
    """Arguments, one a line, quoted for a POSIX shell."""
    return f" \\\n{indent}".join(map(shlex.quote, arguments))


def one_line(script: str) -> str:
    """The same script in one line, for what cannot hold more."""
    text = script.strip().replace(" \\\n", " ")
    open_ended = r"(\b(?:then|do)|&)\n\s*"
    return re.sub(r"\n\s*", "; ", re.sub(open_ended, r"\1 ", text))


def choose(units: Sequence[Unit], variable: str) -> str:
    """Return shell that sets `unit`, `result` and `$@` from a unit's number."""
    cases = []
    for number, unit in enumerate(units):
        cases.append(
            f"{number})\n"
            f"  unit={shlex.quote(unit.name)}\n"
            f"  result={shlex.quote(str(result(unit)))}\n"
            f"  set -- {words(unit.arguments, '    ')}\n"
            "  ;;"
        )
    listed = textwrap.indent("\n".join(cases), "  ")
    return (
        f'case "${variable}" in\n{listed}\n'
        f'  *) echo "no unit ${variable}: there are {len(units)}" >&2; exit 2 ;;\n'
        "esac\n"
    )


def export(spec: Spec) -> str:
    """The environment, one variable a line."""
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in sorted(spec.environment.items())
    )


def awaited(command: str, variable: str) -> str:
    """Return shell that runs `command` with its pid in a variable and sets `code`.

    A shell that a trapped signal wakes has stopped waiting: it waits again.
    """
    return f"""\
{command} &
{variable}=$!
wait "${variable}"
code=$?
while kill -0 "${variable}" 2>/dev/null; do
  wait "${variable}"
  code=$?
done
"""


def guarded(command: str) -> str:
    """Return shell that runs `command` unless `$result` is there.

    The command takes the positional parameters. SIGTERM is passed on to it once; the
    exit code is 143 if it saved a checkpoint without having finished.
    """
    return f"""\
{UNLESS_FINISHED}child=
trap '[ -z "$child" ] || kill -TERM "$child"' TERM
{awaited(command, "child")}if [ "$code" -eq 0 ] && [ ! -e "$result" ]; then
  exit {STOPPED}
fi
exit "$code"
"""
