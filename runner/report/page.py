"""`report.html`: one static page without scripts, fonts or anything from elsewhere."""

import base64
import datetime
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from runner.report import results, terms, units
from runner.report.curves import Picture
from runner.report.run import Run
from runner.report.style import CSS
from runner.writers.quantities import quantity

_SMOOTHING = (
    '<p class="meta">Of a noisy curve the faint line is every logged point, the strong '
    "one a Gaussian moving average.</p>\n"
)


def html(run: Run, pictures: Sequence[Picture]) -> str:
    """Return the whole page; parts the run has nothing for are left out."""
    parts = [
        _header(run),
        _summary(run),
        _notices(run),
        _tiles(run),
        _results(run, pictures),
        _terms(run),
        _curves(run, pictures),
        _samples(run),
        _details(run),
    ]
    return document(run.title, parts)


def document(title: str, parts: Sequence[str], *, script: str = "") -> str:
    """Return a page of our style from pieces of HTML.

    The page forbids every script but `script`, whatever the pieces hold, and every
    connection.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    policy = (
        f"script-src {allowed}; connect-src 'none'; object-src 'none'; "
        "frame-src 'none'; worker-src 'none'; base-uri 'none'; form-action 'none'"
    )
    last = f"<script>{script}</script>\n" if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
{"".join(part for part in parts if part)}{last}</body>
</html>
"""


def _header(run: Run) -> str:
    status = f"step {run.last_step:,}" if run.metrics else "measured"
    if run.num_steps is not None:
        if run.last_step >= run.num_steps:
            status = f"finished, {run.num_steps:,} steps"
        elif run.end == run.last_step:
            status = f"ended early, at step {run.end:,} of {run.num_steps:,}"
        else:
            status = f'<span class="warn">at step {run.last_step:,}'
            status += f" of {run.num_steps:,}</span>"
    facts = [status, escape(str(run.workdir))]
    if (path := run.workdir / "metrics.jsonl").exists():
        written = datetime.datetime.fromtimestamp(path.stat().st_mtime)
        facts.insert(1, f"{written.day} {written:%B %Y, %H:%M}")
    meta = " · ".join(facts)
    return f'<h1>{escape(run.title)}</h1>\n<p class="meta">{meta}</p>\n'


def _summary(run: Run) -> str:
    """Return one paragraph: the student, its terms, the data and the speed."""
    if "student" not in run.config:
        return ""
    # Who learns from what terms.
    student = re.sub(r"partial\((.*)\)", r"\1", run.config.get("student", "a model"))
    match = re.search(r"Total: ([0-9][0-9,]{0,30})", run.parameters)
    size = (
        f" of {quantity(float(match[1].replace(',', '')))} parameters" if match else ""
    )
    terms = [_term(run, term) for term in run.terms]
    text = _code(student) + size + (f" minimises {_and(terms)}" if terms else " learns")
    # On what, how long, by which optimiser; a part that is not known is left out.
    if source := _source(run):
        described = run.data.get("train_data", {})
        count = described.get("tokens" if run.unit == "token" else "rows")
        text += f" on {source}"
        if isinstance(count, int) and count > 0:
            text += f" ({quantity(count)} {run.unit}s)"
    if (steps := run.num_steps) and (batch := run.config.get("batch_size")):
        text += f", in {steps:,} steps of {escape(batch)} "
        text += "sequences" if run.unit == "token" else f"{run.unit}s"
    if optimizer := run.config.get("optimizer"):
        text += f" with {_code(optimizer)}"
    return f"<p>{text}.{_time(run)}</p>\n"


def _source(run: Run) -> str:
    """Return what the training data is made of, and its files, if it says so."""
    path = "train_data"
    while f"{path}.documents" in run.config:  # of a split: what it splits
        path += ".documents"
    if path not in run.config:
        return ""
    files = run.config.get(f"{path}.files", "").strip("[]()")
    return _code(run.config[path]) + (f" of {_code(files)}" if files else "")


def _notices(run: Run) -> str:
    return "".join(f'<p class="warn">{escape(notice)}</p>\n' for notice in run.notices)


def _term(run: Run, term: str) -> str:
    weight = run.of_term(term, "weight")
    try:
        return f"{escape(term)} (weight {float(weight):g})"
    except ValueError:  # A schedule, or not known.
        return f"{escape(term)} ({_code(weight)})" if weight else escape(term)


def _time(run: Run) -> str:
    seconds = run.seconds
    if seconds is None:
        return ""
    text = f" Training took {_minutes(seconds)} without compilation and evaluation"
    if pace := run.metrics.get(f"speed/{run.unit}s_per_second"):
        middle = sorted(pace.values)[len(pace.values) // 2]
        text += f", at {quantity(middle)} {run.unit}s a second"
    if run.waiting is not None:
        text += f", {run.waiting:.1%} of it waiting for data"
    return text + "."


def _minutes(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    parts = [(hours, "h"), (minute, "min"), (second if not hours else 0, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"


def _tiles(run: Run) -> str:
    """Format the first evaluation's numbers, large."""
    if not run.evaluations:
        return ""
    name, metrics = next(iter(run.evaluations.items()))
    shown = [
        ("loss", units.of_loss(run.unit), results.number),
        ("bits_per_byte", "bits per byte", results.number),
        *(
            [("perplexity", "perplexity", lambda value: results.number(value, 1))]
            if run.unit == "token"
            else []
        ),
        *results.SHARES,
    ]
    tiles = [
        f'<div class="tile"><b>{show(metrics[key])}</b>'
        f"<span>{escape(label)}</span></div>\n"
        for key, label, show in shown
        if metrics.get(key) is not None
    ]
    if not tiles:
        return ""
    note = f'<p class="meta">Measured on {escape(name)}.</p>\n'
    return f'<div class="tiles">\n{"".join(tiles)}</div>\n' + (
        note if len(run.evaluations) > 1 else ""
    )


def _results(run: Run, pictures: Sequence[Picture]) -> str:
    table = results.rows(run)
    if not table:
        return ""
    columns = results.columns(run.unit, table)
    lengths = [results.length(row, run.unit) for row in table]
    lines = [
        f"<tr{' class=ours' if row.trained else ''}><td>{escape(row.name)}</td>"
        + "".join(f"<td>{column.cell(row)}</td>" for column in columns)
        + f'<td class="bar">{bar(length, among=lengths)}</td></tr>\n'
        for row, length in zip(table, lengths, strict=True)
    ]
    heads = "".join(f"<th>{column.title}</th>" for column in columns)
    body = (
        f'<div class="scroll"><table>\n<tr><th></th>{heads}<th></th></tr>\n'
        f"{''.join(lines)}</table></div>\n{note(table, run.unit)}"
    )
    beside = figure(pictures[0]) if pictures else ""
    return f'<h2>Result</h2>\n<div class="grid">\n<div>{body}</div>\n{beside}</div>\n'


def _terms(run: Run) -> str:
    """Format every loss on held-out data, unweighted, beside untrained and teacher."""
    tables = []
    for evaluation in run.evaluations:
        table = terms.rows(run, evaluation)
        if len(table) < 2:
            continue
        columns = terms.columns(table)
        heads = "".join(f"<th>{terms.HEADS[i]}</th>" for i in columns)
        lines = [
            f"<tr><td>{escape(row.name)}</td>"
            + "".join(f"<td>{cell}</td>" for cell in row.cells(columns))
            + f"<td>{escape(row.unit)}</td></tr>\n"
            for row in table
        ]
        below = "".join(
            f'<p class="meta">{escape(line.capitalize())}.</p>\n'
            for line in terms.notes(run, table)
        )
        tables.append(
            f'<div class="scroll"><table>\n<tr><th>{escape(evaluation)}</th>{heads}'
            f"<th></th></tr>\n{''.join(lines)}</table></div>\n{below}"
        )
    if not tables:
        return ""
    return f"<h2>Losses on held-out data</h2>\n{''.join(tables)}"


def note(table: Sequence[results.Row], unit: str = "token") -> str:
    """Return the note on the direction of the numbers."""
    if unit != "token":
        return '<p class="meta">Bars are errors: less is better.</p>\n'
    text = "Less is better."
    if any(row.nats_per_token is None for row in table):
        text += " Compressors know no tokens: bits per byte is what all share."
    return f'<p class="meta">{text}</p>\n'


def bar(value: float | None, *, among: Sequence[float | None]) -> str:
    """Return a bar as long as the value is large beside the largest."""
    if value is None or not math.isfinite(value):
        return ""
    widest = max(v for v in among if v is not None and math.isfinite(v))
    return f'<i style="width:{100 * value / (widest or 1.0):.1f}%"></i>'


def _curves(run: Run, pictures: Sequence[Picture]) -> str:
    shown = pictures[1:] if results.rows(run) else pictures
    sections = []
    for section, group in itertools.groupby(shown, key=lambda p: p.section):
        figures = "".join(map(figure, group))
        title = escape(section.capitalize())
        sections.append(f'<h2>{title}</h2>\n<div class="grid">\n{figures}</div>\n')
    return "".join([*sections, _SMOOTHING if sections else ""])


def figure(picture: Picture, *, folder: str = "report") -> str:
    """Return a picture that follows the reader's choice of light or dark."""
    title, unit = escape(picture.title), escape(picture.unit)
    dark = "(prefers-color-scheme: dark)"
    return (
        f"<figure><figcaption>{title}</figcaption>\n<picture>"
        f'<source srcset="{folder}/{picture.dark}" media="{dark}">'
        f'<img src="{folder}/{picture.light}" alt="{title}, {unit}">'
        "</picture></figure>\n"
    )


def _samples(run: Run) -> str:
    if not run.samples:
        return ""
    quotes = [
        f"<blockquote><b>{escape(x.prompt)}</b>{escape(x.text)}</blockquote>\n"
        for x in run.samples
    ]
    return f"<h2>Samples</h2>\n{''.join(quotes)}"


def _details(run: Run) -> str:
    parts = [
        ("Command", "", run.command, " class=wrap"),
        ("Experiment", f"{len(run.config)} lines", run.config_text, ""),
        ("Runtime", "changes nothing of the result", run.runtime, ""),
        ("Parameters", "", run.parameters, ""),
        ("Data", "", _lines(run.data), " class=wrap"),
        ("Versions", "", _lines(run.versions), " class=wrap"),
    ]
    blocks = [
        f"<details><summary>{title} <span>{note}</span></summary>\n"
        f"<pre{style}>{escape(text.strip())}</pre></details>\n"
        for title, note, text, style in parts
        if text.strip()
    ]
    return f"<h2>How it was made</h2>\n{''.join(blocks)}" if blocks else ""


def _lines(values: Mapping[str, Any], prefix: str = "") -> str:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines.append(_lines(value, f"{prefix}{key}."))
        else:
            shown = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"{prefix}{key}: {shown}\n")
    return "".join(lines)


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
