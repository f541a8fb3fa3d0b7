"""Completion of `runner` in bash and zsh, by argcomplete.

    eval "$(register-python-argcomplete runner)"      # also into ~/.bashrc

Flags, kinds, names, gin settings, files, and the functions of the config file that is
named: its text is read for them, and nothing of it runs.
"""

import argparse
import ast
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from runner.cli import flags

_FILES = {
    "fdl_config": "py",
    "fdl_config_file": "json",
    "diff": "py",
    "graph": "svg",
    "gin_file": "gin",
}
_FUNCTIONS = ("sweep", "fiddler")


def complete() -> None:
    """Write the completions to the shell, and end the process."""
    import argcomplete

    line = os.environ.get("COMP_LINE", "")
    argcomplete.autocomplete(parser(line), always_complete_options="long")


def parser(line: str = "") -> argparse.ArgumentParser:
    """Return every flag as argparse has it; `line` is what stands there already."""
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter

    result = argparse.ArgumentParser(prog="runner", add_help=False, allow_abbrev=False)
    words = result.add_argument("words", nargs="*")
    _set(words, _words)
    for name in flags.BARE:
        result.add_argument(f"--{name}", action="store_true")
    for name in (*flags.VALUED, *flags.REPEATED, *flags.EITHER):
        nargs = "?" if name in flags.EITHER else None
        action = result.add_argument(f"--{name}", action="append", nargs=nargs)
        if name in _FILES:
            _set(action, FilesCompleter(allowednames=(_FILES[name],)))
        elif name == "workdir":
            _set(action, DirectoriesCompleter())
        elif name in _FUNCTIONS:
            _set(action, lambda **_: functions(config_of(line)))
    _set(result._option_string_actions["--list"], _kinds)
    _set(result._option_string_actions["--describe"], _names)
    # What takes an import waits until somebody begins to write it.
    if "--gin." in line:
        from runner.cli import reference

        for setting, _, _ in reference.settings():
            result.add_argument(f"--gin.{setting.partition('=')[0]}")
    return result


def functions(config: str) -> list[str]:
    """Return the public functions of a Python file but `config`; none is called."""
    try:
        tree = ast.parse(Path(config).read_text())
    except (OSError, ValueError, SyntaxError):
        return []
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [n for n in names if not n.startswith("_") and n != "config"]


def config_of(line: str) -> str:
    """Return the file that a command line names as its config."""
    words = line.replace("=", " ").split()
    after = [b for a, b in itertools.pairwise(words) if a == "--fdl_config"]
    return after[-1].strip("'\"").partition(":")[0] if after else ""


def _set(action: argparse.Action, completer: Callable[..., Iterable[str]]) -> None:
    action.completer = completer  # pyright: ignore[reportAttributeAccessIssue] - argcomplete reads it


def _words(prefix: str, parsed_args: argparse.Namespace, **_) -> list[str]:
    from argcomplete.completers import DirectoriesCompleter

    if "report" in (parsed_args.words or []):
        return list(DirectoriesCompleter()(prefix))
    return ["report"]


def _kinds(**_) -> list[str]:
    from runner.cli import lookups

    return list(lookups.KINDS)


def _names(**_) -> list[str]:
    from runner.cli import catalog, reference
    from runner.graph.names import public

    listed = [public(value) for kind in catalog.KINDS for value in catalog.values(kind)]
    settings = [setting.partition("=")[0] for setting, _, _ in reference.settings()]
    return sorted({*listed, *settings})
