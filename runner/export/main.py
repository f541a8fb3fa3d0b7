"""`runner-export WORKDIR --to=DIR`: a run's student as a model for other programs."""

import argparse
import sys
from collections.abc import Sequence

from runner.errors import UserError
from runner.files import remote
from runner.machine import console


def main(arguments: Sequence[str]) -> int:
    """Return the exit code; 2 comes with one to three lines on stderr."""
    try:
        parsed = _parser().parse_args(arguments)
        from runner.export.job import BEST, Export

        job = Export(
            workdir=parsed.workdir,
            to=parsed.to,
            step=BEST if parsed.best else parsed.step,
            format=parsed.format,
            dtype=parsed.dtype,
            average=parsed.average,
        )
        print(job.write())
    except (UserError, KeyboardInterrupt) as error:
        print(f"runner-export: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="runner-export",
        description="Write the student of a run as a model for other programs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "workdir",
        metavar="WORKDIR",
        type=remote.local("workdir"),
        help="the run's work directory",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="DIR",
        type=remote.local("--to"),
        help="directory to write, a new one",
    )
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument(
        "--step", type=int, metavar="N", help="of the checkpoint; the newest without"
    )
    steps.add_argument(
        "--best", action="store_true", help="the checkpoint that keep_best chose"
    )
    parser.add_argument(
        "--format",
        default="hf",
        help="hf (transformers), gguf (llama.cpp) or peft (the adapters alone)",
    )
    parser.add_argument(
        "--dtype",
        default="",
        help="float32, bfloat16, float16, or quantized (gguf alone); without, that of "
        "the parameters",
    )
    parser.add_argument(
        "--average",
        default="",
        metavar="NAME",
        help="an average of the weights that the run kept; the weights without",
    )
    return parser


def run() -> None:
    """The console entry point."""
    sys.exit(console.exit_code(main, sys.argv[1:]))


if __name__ == "__main__":
    run()
