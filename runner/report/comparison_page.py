"""`comparison.html`: several runs on one page, in the style of the page of one."""

import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from runner import atomic_files
from runner.report import comparison, page, plot, results, theme
from runner.report.comparison import Entry, Row
from runner.report.curves import Picture, cross_entropy

FOLDER = "comparison"


def write(entries: Sequence[Entry], directory: Path) -> Path:
    """Write the page and its pictures into `directory`; return its path."""
    path = directory / "comparison.html"
    atomic_files.write_atomic(path, _html(entries, directory))
    return path


def _html(entries: Sequence[Entry], directory: Path) -> str:
    table = comparison.rows(entries)
    runs = [row for row in table if row.trained]
    title = f"{len(runs)} runs compared"
    parts = [
        f'<h1>{title}</h1>\n<p class="meta">{escape(str(directory))}</p>\n',
        *(
            f'<p class="warn">{escape(line)}</p>\n'
            for line in comparison.warnings(entries)
        ),
        _results(table, directory, entries),
        '<div class="grid">\n',
        _curves(entries, directory),
        _costs(comparison.costs(entries)),
        "</div>\n",
        _commands(entries),
    ]
    return page.document(title, parts)


def _results(table: Sequence[Row], directory: Path, entries: Sequence[Entry]) -> str:
    unit, columns = comparison.unit(entries), comparison.columns(entries)
    lengths = [results.length(row, unit) for row in table]
    lines = [
        f"<tr{' class=ours' if row.trained else ''}><td>{_name(row, directory)}</td>"
        f"<td>{row.steps}</td>"
        + "".join(f"<td>{column.cell(row)}</td>" for column in columns)
        + f"<td>{row.time}</td>"
        f'<td class="bar">{page.bar(length, among=lengths)}</td></tr>\n'
        for row, length in zip(table, lengths, strict=True)
    ]
    heads = "".join(f"<th>{column.title}</th>" for column in columns)
    return (
        '<h2>Result</h2>\n<div class="scroll"><table>\n<tr><th></th><th>steps</th>'
        f"{heads}<th>training</th><th></th></tr>\n"
        f"{''.join(lines)}</table></div>\n{page.note(table, unit)}"
    )


def _name(row: Row, directory: Path) -> str:
    """Format the name, as a link to the run's own page where it has one."""
    name = escape(row.name)
    if row.entry is None or not (row.entry.run.workdir / "report.html").exists():
        return name
    target = os.path.relpath(row.entry.run.workdir / "report.html", directory)
    return f'<a href="{escape(target)}">{name}</a>'


def _costs(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    paragraphs = "".join(f"<p>{escape(line)}</p>\n" for line in lines)
    return f"<div><h2>What the teacher cost</h2>\n{paragraphs}</div>\n"


def _curves(entries: Sequence[Entry], directory: Path) -> str:
    """Draw the cross-entropy on the training batches, of every run that logged one."""
    lines = {}
    for one in entries:
        name = cross_entropy(one.run)
        if name and len(one.run.metrics[name].steps) > 1:
            lines[one.name] = one.run.metrics[name]
    if not lines:
        return ""
    # Baselines that were not trained, as levels.
    levels = {
        row.name: row.nats_per_token
        for row in comparison.rows(entries)
        if row.entry is None and row.nats_per_token is not None
    }
    unit = f"nats per {comparison.unit(entries)}"
    svg = plot.compared(lines, unit=unit, levels=levels)
    (directory / FOLDER).mkdir(exist_ok=True)
    files = "cross_entropy.svg", "cross_entropy-dark.svg"
    for file, text in zip(files, (svg, theme.dark(svg)), strict=True):
        atomic_files.write_atomic(directory / FOLDER / file, text)
    picture = Picture("learning", "cross-entropy in training", unit, *files)
    figure = page.figure(picture, folder=FOLDER)
    return f"<div><h2>Learning</h2>\n{figure}</div>\n"


def _commands(entries: Sequence[Entry]) -> str:
    """Format the last command of each work directory."""
    blocks = [
        f"<details><summary>{escape(one.name)}</summary>\n"
        f"<pre class=wrap>{escape(commands[-1])}</pre></details>\n"
        for one in entries
        if (commands := re.findall(r"^[^#\n].*", one.run.command, re.MULTILINE))
    ]
    return f"<h2>How they were made</h2>\n{''.join(blocks)}" if blocks else ""
