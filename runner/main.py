"""The command line: a graph in, a trained student out. `runner --help` says how."""

import os
import sys
from collections.abc import Sequence

from runner import collector, flags, usage
from runner.errors import NotFinite, PeerLost, UserError


def main(argv: Sequence[str]) -> int:
    """The exit code; all but 0 come with one to three lines on stderr."""
    codes = {UserError: 2, NotFinite: 1, PeerLost: 1, KeyboardInterrupt: 130}
    try:
        _obey(flags.parse(argv[1:]), argv)
    except tuple(codes) as error:
        print(f"runner: {str(error) or 'interrupted'}", file=sys.stderr)
        return codes[type(error)]
    return 0


def _obey(command: flags.Command, argv: Sequence[str]) -> None:
    match command.action:
        case flags.Flag("help"):
            return print(usage.HELP, end="")
        case flags.Flag("version"):
            return print(usage.version())

    from runner import bindings, look, packages, sweeps
    from runner.graph import base

    packages.check()
    if sweeps.concerns(command):
        return sweeps.obey(command, argv)
    cfg = base.resolve(command)
    bindings.apply(command.runtime)
    if command.action:
        return look.at(cfg, command.action)

    from runner import workdir
    from runner.graph import build

    job = build.job(cfg)
    assert command.workdir is not None
    first = not hasattr(job, "join") or job.join() == 0
    collector.release()
    with workdir.open(command.workdir, cfg, argv, writes=first) as opened:
        job.run(opened)


@collector.held()
def run() -> None:
    """The console entry point."""
    try:
        code = main(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:  # `runner ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code and "runner.distributed" in sys.modules:
        sys.modules["runner.distributed"].leave(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
