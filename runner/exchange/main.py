"""`runner-records`: describe, check, import and write out teacher records."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runner.errors import UserError
from runner.files import remote
from runner.machine import console


def main(arguments: Sequence[str]) -> int:
    """Return the exit code; 2 comes with one to three lines on stderr."""
    try:
        parsed = _parser().parse_args(arguments)
        parsed.command(parsed)
    except (UserError, KeyboardInterrupt) as error:
        print(f"runner-records: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="runner-records",
        description="Look at, check and exchange offline teacher records.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command, text in {
        _inspect: "say what they are: sizes, teacher, hit rate, some guesses",
        _verify: "check every byte and every record; exit code 2 if one is wrong",
    }.items():
        looking = commands.add_parser(
            command.__name__.removeprefix("_"), help=text, description=text
        )
        looking.set_defaults(command=command)
        looking.add_argument(
            "directory",
            metavar="DIR",
            type=remote.local("records"),
            help="a directory of records, or a work directory with records/ in it",
        )
    _add_prompts(commands)
    _add_import(commands)
    _add_export(commands)
    return parser


def _add_prompts(commands) -> None:
    text = "write the ids that a server is to score, a JSON object a segment of a row"
    parser = commands.add_parser("prompts", help=text, description=text)
    parser.set_defaults(command=_prompts)
    _add_data(parser)
    _add_target(parser, "FILE", "a new .jsonl file")


def _add_import(commands) -> None:
    text = "write records from scores of another program"
    parser = commands.add_parser("import", help=text, description=text)
    parser.set_defaults(command=_import)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=remote.local("source"),
        help="a file, or a folder of them",
    )
    parser.add_argument(
        "--from",
        required=True,
        dest="kind",
        metavar="KIND",
        help="axolotl, distillkit, llama_cpp, maxtext, sglang, trl or vllm",
    )
    _add_data(parser)
    _add_target(parser, "DIR", "directory to write, a new one")
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="at which the scores were taken, where they do not say it or say it wrong",
    )
    parser.add_argument(
        "--entries", type=int, metavar="K", help="best entries of a token to keep"
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="tokens may lack scores; the terms of a teacher do not count them",
    )


def _add_export(commands) -> None:
    text = "write best entries in the form of another trainer"
    parser = commands.add_parser("export", help=text, description=text)
    parser.set_defaults(command=_export)
    parser.add_argument(
        "directory",
        metavar="DIR",
        type=remote.local("records"),
        help="a directory of records",
    )
    parser.add_argument(
        "--as", required=True, dest="form", metavar="FORM", help="distillkit or maxtext"
    )
    _add_target(parser, "DIR", "directory to write, a new one")


def _add_target(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    parser.add_argument(
        "--to", required=True, metavar=metavar, type=remote.local("--to"), help=text
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        required=True,
        metavar="CONFIG",
        type=remote.local("--data"),
        help="a config file whose training data (or data) the records are of",
    )


def _inspect(parsed: argparse.Namespace) -> None:
    from runner.records.show import describe

    for line in describe(parsed.directory):
        print(line)


def _verify(parsed: argparse.Namespace) -> None:
    from runner.records.verify import verify
    from runner.writers.quantities import quantity

    manifest = verify(parsed.directory)
    size = sum(shard.bytes for shard in manifest.shards)
    print(
        f"{parsed.directory}: {manifest.records:,} records in "
        f"{len(manifest.shards)} files, {quantity(size)}B, all whole; hit rate "
        f"{manifest.hit_rate:.1%}"
    )


def _prompts(parsed: argparse.Namespace) -> None:
    from runner.exchange.prompts import write
    from runner.exchange.rows_of import dataset_of

    count = write(dataset_of(parsed.data), Path(parsed.to))
    print(f"{parsed.to}: {count:,} prompts")


def _import(parsed: argparse.Namespace) -> None:
    from runner.exchange import kinds
    from runner.exchange.importing import Choices, import_records
    from runner.exchange.rows_of import dataset_of

    kinds.reader(parsed.kind)  # before the data, which can take minutes
    fields = ("temperature", "entries", "partial")
    choices = Choices(**{name: getattr(parsed, name) for name in fields})
    manifest = import_records(
        parsed.kind,
        Path(parsed.source),
        Path(parsed.to),
        dataset_of(parsed.data),
        choices,
    )
    layout = manifest.layout
    print(
        f"{parsed.to}: {manifest.records:,} records of {layout.sequence_length} "
        f"tokens, {layout.entries} entries each; the next token is among them in "
        f"{100 * manifest.hit_rate:.1f} % of {manifest.targets:,} places"
    )
    if not layout.temperatures:
        print(
            "the mass outside of the entries is not known: of the divergences, those "
            "with sparse='renormalize_both' or 'renormalize_teacher' can read them"
        )


def _export(parsed: argparse.Namespace) -> None:
    from runner.exchange.exporting import export_records

    loss = export_records(parsed.form, Path(parsed.directory), Path(parsed.to))
    print("\n".join(filter(None, (f"{parsed.to}: written", loss))))


def run() -> None:
    """The console entry point."""
    sys.exit(console.exit_code(main, sys.argv[1:]))


if __name__ == "__main__":
    run()
