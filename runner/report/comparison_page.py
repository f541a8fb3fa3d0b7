"""`comparison.html`: several runs on one page, which can be mailed as it is."""

import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from runner import atomic_files
from runner.report import (
    chart,
    comparison,
    interactive_curves,
    page,
    plot,
    results,
    theme,
)
from runner.report.chart import Chart
from runner.report.comparison import Entry, Row

FOLDER = "comparison"


def write(entries: Sequence[Entry], directory: Path) -> Path:
    """Write the page and its pictures into `directory`; return its path."""
    path = directory / "comparison.html"
    atomic_files.write_atomic(path, _html(entries, directory))
    return path


def _html(entries: Sequence[Entry], directory: Path) -> str:
    table = comparison.rows(entries)
    trained = [entry for entry in entries if entry.records is None]
    names = _distinct([entry.name for entry in trained])
    runs = [entry.run for entry in trained]
    charts = chart.charts(runs)
    unit = comparison.unit(entries)
    title = f"{len(runs)} runs compared"
    parts = [
        f'<h1>{title}</h1>\n<p class="meta">{escape(str(directory))}</p>\n',
        *(
            f'<p class="warn">{escape(line)}</p>\n'
            for line in comparison.warnings(entries)
        ),
        _results(table, directory, entries),
        interactive_curves.html(names, runs, charts, unit=unit) if charts else "",
        _pictures(charts, names, directory),
        _costs(comparison.costs(entries)),
        _commands(entries),
    ]
    script = interactive_curves.script() if charts else ""
    return page.document(title, parts, script=script)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, numbered where several runs have one."""
    return [
        name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def _results(table: Sequence[Row], directory: Path, entries: Sequence[Entry]) -> str:
    unit = comparison.unit(entries)
    columns = comparison.columns(entries, table)
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
    # A long name breaks between its parts, where the page is narrow.
    name = re.sub(r"(?<=[=.(,])(?=[^\W\d])", "<wbr>", escape(row.name))
    if row.entry is None or not (row.entry.run.workdir / "report.html").exists():
        return name
    target = os.path.relpath(row.entry.run.workdir / "report.html", directory)
    return f'<a href="{escape(target)}">{name}</a>'


def _costs(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    paragraphs = "".join(f"<p>{escape(line)}</p>\n" for line in lines)
    return f"<h2>What the teacher cost</h2>\n{paragraphs}"


def _pictures(charts: Sequence[Chart], names: Sequence[str], directory: Path) -> str:
    """Draw the charts of the open sections as files for a paper; return their list."""
    folder = directory / FOLDER
    items = []
    for one in charts:
        if one.section not in chart.OPEN:
            continue
        figure = plot.compared(
            {names[i]: line for i, line in one.lines.items()},
            unit=one.unit,
            levels=one.levels,
            numbers=list(one.lines),
        )
        folder.mkdir(exist_ok=True)
        stem = re.sub(r"[^\w.-]+", "_", one.name)[:80]  # of four bytes each at most
        svg, pdf = plot.saved(figure, "svg"), plot.saved(figure, "pdf")
        dark = theme.dark(svg.decode()).encode()
        files = {f"{stem}.svg": svg, f"{stem}-dark.svg": dark, f"{stem}.pdf": pdf}
        for file, data in files.items():
            atomic_files.write_atomic(folder / file, data)
        links = ", ".join(
            f'<a href="{FOLDER}/{escape(file)}">{escape(file)}</a>' for file in files
        )
        items.append(f"<li>{escape(one.title)}: {links}</li>\n")
    if not items:
        return ""
    return (
        f"<details><summary>Pictures for papers <span>in {FOLDER}/, beside this page"
        f"</span></summary>\n<ul>\n{''.join(items)}</ul></details>\n"
    )


def _commands(entries: Sequence[Entry]) -> str:
    """Format the last command of each work directory."""
    blocks = [
        f"<details><summary>{escape(one.name)}</summary>\n"
        f"<pre class=wrap>{escape(commands[-1])}</pre></details>\n"
        for one in entries
        if (commands := re.findall(r"^[^#\n].*", one.run.command, re.MULTILINE))
    ]
    return f"<h2>How they were made</h2>\n{''.join(blocks)}" if blocks else ""
