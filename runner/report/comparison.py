"""Several runs in one table: what each learnt, in how long, and what the teacher cost.

    python -m runner.report "labels alone=runs/labels" runs/offline runs/records

A work directory of teacher records is no row but a line of costs below the table.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.errors import UserError
from runner.files import form
from runner.files.printable import printable
from runner.records import manifest
from runner.report import results, sweep_units
from runner.report.run import Run, load
from runner.writers.quantities import duration


@dataclasses.dataclass(frozen=True)
class Entry:
    """A work directory, and the name to show it under.

    Attributes:
      name: The name.
      run: The run.
      records: The manifest of its records, if it is a recording.
    """

    name: str
    run: Run
    records: manifest.Manifest | None = None


@dataclasses.dataclass(frozen=True)
class Cost:
    """Content of `recording.json`: rows written by the last process, and seconds."""

    rows: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Row(results.Row):
    """A run, or a baseline: `entry` is None then."""

    entry: Entry | None = None

    @property
    def steps(self) -> str:
        """Format the steps: `300`; `120/300` of a run that has not ended."""
        if self.entry is None:
            return ""
        done, total = self.entry.run.last_step, self.entry.run.num_steps
        return f"{done:,}" if done == total or not total else f"{done:,}/{total:,}"

    @property
    def time(self) -> str:
        """Format the time of training: `2:45`."""
        seconds = self.entry and self.entry.run.seconds
        return duration(seconds) if seconds else ""


def entries(arguments: Sequence[str]) -> list[Entry]:
    """Read the runs of `DIR` or `NAME=DIR`; of a sweep, its units that have begun.

    A unit is named by what it differs in, after the name of its sweep where that is
    given or there are several. Directories of one name are named by their paths.

    Raises:
      UserError: One holds no run, no unit of a sweep has begun, or two have one name.
    """
    named = _named(arguments)
    several = sum(sweep_units.is_sweep(path) for _, path in named) > 1
    listed = []
    for name, path in named:
        if not sweep_units.is_sweep(path):
            listed.append(_entry(name, path))
            continue
        prefix = name or (path.absolute().name if several else "")
        for label, unit in sweep_units.begun(path).items():
            listed.append(_entry(f"{prefix}: {label}" if prefix else label, unit))
    runs = {(one.name, one.run.workdir): one.name for one in listed}
    if twice := _repeated(runs.values()):
        name = min(twice)
        raise UserError(f"two runs are named '{name}'; give each a name: NAME=DIR")
    return listed


def split(argument: str) -> tuple[str, Path]:
    """Return the name and the path of `NAME=DIR`; of `DIR` no name."""
    name, assigned, path = argument.partition("=")
    if not assigned or Path(argument).is_dir():
        return "", Path(argument)
    return name, Path(path)


def _named(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    named = [split(argument) for argument in arguments]
    twice = _repeated(path.absolute().name for name, path in named if not name)
    return [
        (name or (str(path) if path.absolute().name in twice else ""), path)
        for name, path in named
    ]


def _repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in collections.Counter(names).items() if count > 1}


def _entry(name: str, path: Path) -> Entry:
    run = load(path)
    root = run.config.get("<root>", "").rpartition(".")[2]
    records = None
    if root == "RecordTeacher":
        records = manifest.read_manifest(manifest.locate(path))
    return Entry(name or run.workdir.name, run, records)


def rows(entries: Sequence[Entry]) -> list[Row]:
    """Return the runs among the baselines of the first that has any; best last.

    Of a run with several evaluations, the first.
    """
    runs = [entry for entry in entries if entry.records is None]
    table = []
    for one in runs:
        metrics = next(iter(one.run.results.values()), {})
        nats, bits = metrics.get("loss"), metrics.get("bits_per_byte")
        share = metrics.get("accuracy")
        row = Row(one.name, nats, bits, trained=True, accuracy=share, entry=one)
        table.append(row)
    baselines = next((e.run.baselines for e in runs if e.run.baselines), ())
    table += [
        Row(b.name, b.nats_per_token, b.bits_per_byte, accuracy=b.accuracy)
        for b in baselines
    ]
    return sorted(table, key=results.badness, reverse=True)


def text(entries: Sequence[Entry]) -> str:
    """Format the table for a terminal, and the costs.

                    steps  nats/token  bits/byte  training
      bigram                    4.933      1.840
    > labels alone    300       4.812      1.801      1:02
    > teacher         700       4.440      1.660      2:05

      teacher: 700 steps in 2:05
      records: 2,400 rows in 0:17, 80.1 MB, 261 bytes a token
    """
    # Columns as wide as their widest cell.
    table = rows(entries)
    width = max([len(row.name) for row in table], default=0)
    steps = max([5, *(len(row.steps) for row in table)])
    listed_columns = columns(entries, table)
    titles = "  ".join(column.title for column in listed_columns)
    lines = [f"  {'':{width}}  {'steps':>{steps}}  {titles}  training"]
    lines += [
        (
            f"{'>' if row.trained else ' '} {row.name:{width}}"
            f"  {row.steps:>{steps}}  "
            + "  ".join(f"{c.cell(row):>{len(c.title)}}" for c in listed_columns)
            + f"  {row.time:>8}"
        ).rstrip()
        for row in table
    ]
    notes = [*costs(entries), *warnings(entries)]
    lines += [*([""] if notes else []), *(f"  {note}" for note in notes)]
    return printable("\n".join(lines))


def unit(entries: Sequence[Entry]) -> str:
    """Return the unit of the first run that is no recording: `"token"`, `"image"`."""
    return next((one.run.unit for one in entries if one.records is None), "token")


def columns(entries: Sequence[Entry], table: Sequence[Row]) -> list[results.Column]:
    """Return the columns of one run's table, less the perplexity."""
    every_column = results.columns(unit(entries), table)
    return [column for column in every_column if column.title != "perplexity"]


def costs(entries: Sequence[Entry]) -> list[str]:
    """Return a line for each run that taught another, and for each recording."""
    checkpoints = [one.run.config.get("teacher.checkpoint", "") for one in entries]
    teachers = {Path(path.strip("'\"")).absolute() for path in checkpoints if path}
    lines = []
    for one in entries:
        if one.records is not None:
            lines.append(f"{one.name}: {_recorded(one.run.workdir, one.records)}")
        elif one.run.workdir in teachers and one.run.seconds:
            time = duration(one.run.seconds)
            lines.append(f"{one.name}: {one.run.last_step:,} steps in {time}")
    return lines


def warnings(entries: Sequence[Entry]) -> list[str]:
    """Name the runs whose text has another fingerprint than that of the first."""
    measured = {}
    for one in entries:
        evaluation = next(iter(one.run.evaluations), "")
        if fingerprint := one.run.data.get(evaluation, {}).get("fingerprint"):
            measured[one.name] = fingerprint
    first = next(iter(measured), "")
    others = [name for name, digest in measured.items() if digest != measured[first]]
    if not others:
        return []
    return [f"not to be compared with {first}, other text: {', '.join(others)}"]


def _recorded(workdir: Path, records: manifest.Manifest) -> str:
    """Format rows, seconds of all at the pace of those last written, and size."""
    size = sum(shard.bytes for shard in records.shards)
    tokens = records.records * records.layout.sequence_length
    path, time = workdir / "recording.json", ""
    with form.of_file(path):
        cost = form.read(Cost, path)
        seconds = cost.seconds * records.records / max(cost.rows, 1)
        time = f" in {duration(seconds)}"
    return (
        f"{records.records:,} rows{time}, {size / 1e6:,.1f} MB, "
        f"{size / max(tokens, 1):.0f} bytes a token"
    )
