"""The command `runner`, which trains a student from a graph; see `runner --help`."""

import os
import sys
from collections.abc import Sequence

from runner.cli import flags, gc_freeze, help
from runner.errors import Corrupted, NotFinite, PeerLost, UserError
from runner.files import early_line
from runner.files.printable import printable
from runner.machine import console, early_exit, heap, schedule


def main(argv: Sequence[str]) -> int:
    """Run a command and return the exit code; errors print up to three lines."""
    if argv[1:2] == ["report"]:
        from runner.report import __main__ as report

        return report.main(list(argv[2:]))
    codes = {UserError: 2, NotFinite: 1, PeerLost: PeerLost.code, Corrupted: 5}
    codes[KeyboardInterrupt] = 130
    try:
        _obey(flags.parse(argv[1:]), argv)
    except tuple(codes) as error:
        early_line.clear()
        line = f"runner: {str(error) or 'interrupted'}"
        print(printable(line), file=sys.stderr)
        return next(code for kind, code in codes.items() if isinstance(error, kind))
    return 0


def _obey(command: flags.Command, argv: Sequence[str]) -> None:
    # Texts, which need no imports.
    match command.action:
        case flags.Flag("help"):
            return print(help.HELP, end="")
        case flags.Flag("version"):
            return print(help.version())

    if command.action is None:
        early_line.show("reading the graph")
    # Foreign packages are named, and fiddle is there, before what imports both.
    from runner import graph
    from runner.cli import import_check

    import_check.check()
    graph.import_fiddle()

    from runner.cli import admission, command_graph, gin_flags, inspect
    from runner.sweeps.command import is_sweep, run_sweep

    admission.admit(command)
    if command.action and command.action.name in flags.LOOKED_UP:
        return inspect.look_up(command, command.action)
    if is_sweep(command):
        return run_sweep(command, argv)
    # The graph, to compare, to look at or to build.
    if command.action and command.action.name == "diff":
        gin_flags.apply(command.runtime)
        return inspect.compare(command, command.action)
    cfg = command_graph.resolve(command)
    gin_flags.apply(command.runtime)
    if command.action:
        return inspect.at(command, cfg, command.action)

    from runner.workdir import opening

    assert command.workdir is not None
    resumed = opening.has_checkpoints(command.workdir)
    job = command_graph.job(command, cfg, resumed=resumed)
    # The first process writes the work directory, so the processes connect before.
    first = job.init_distributed() == 0
    gc_freeze.release()
    with opening.open_workdir(
        command.workdir, cfg, argv, writes=first, begin_anew=command.begin_anew
    ) as directory:
        early_line.clear()
        job.run(directory)


@gc_freeze.hold()
def run() -> None:
    """The console entry point."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks
        from runner.cli import completion

        return completion.complete()
    heap.keep_pages()
    schedule.prefer_memory(os.environ)
    code = console.exit_code(main, sys.argv)
    early_exit.run(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
