"""`runner-records inspect|verify DIR`: describe records, or check every byte."""

import argparse
import sys
from collections.abc import Sequence

from runner.errors import UserError
from runner.machine import console


def main(arguments: Sequence[str]) -> int:
    """Return the exit code; 2 comes with one to three lines on stderr."""
    parser = argparse.ArgumentParser(
        prog="runner-records", description="Look at and check offline teacher records."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in {
        "inspect": "say what they are: sizes, teacher, hit rate, some guesses",
        "verify": "check every byte and every record; exit code 2 if one is wrong",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "directory",
            metavar="DIR",
            help="a directory of records, or a work directory with records/ in it",
        )
    parsed = parser.parse_args(arguments)
    try:
        {"inspect": _inspect, "verify": _verify}[parsed.command](parsed.directory)
    except (UserError, KeyboardInterrupt) as error:
        print(f"runner-records: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 130
    return 0


def _inspect(directory: str) -> None:
    from runner.records.show import describe

    for line in describe(directory):
        print(line)


def _verify(directory: str) -> None:
    from runner.records.verify import verify
    from runner.writers.quantities import quantity

    manifest = verify(directory)
    size = sum(shard.bytes for shard in manifest.shards)
    print(
        f"{directory}: {manifest.records:,} records in {len(manifest.shards)} files, "
        f"{quantity(size)}B, all whole; hit rate {manifest.hit_rate:.1%}"
    )


def run() -> None:
    """The console entry point."""
    sys.exit(console.exit_code(main, sys.argv[1:]))


if __name__ == "__main__":
    run()
