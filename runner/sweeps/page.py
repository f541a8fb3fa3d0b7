"""`report.html` of a sweep: the table, the picture, links to the pages of the runs."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from runner import atomic_files
from runner.evidence import picture, tables
from runner.report import page, swept, theme, units
from runner.report.curves import Picture
from runner.report.results import number
from runner.sweeps import sensitivity, settings, table
from runner.sweeps.frozen import Frozen
from runner.sweeps.outcome import Outcome, evaluations


def write(frozen: Frozen, outcomes: Sequence[Outcome]) -> Path:
    """Write the page and its pictures beside `sweep.json`; return its path."""
    pictures = list(_pictures(frozen, outcomes))
    path = frozen.path / "report.html"
    atomic_files.write_atomic(path, _html(frozen, outcomes, pictures))
    return path


def _pictures(frozen: Frozen, outcomes: Sequence[Outcome]) -> Iterator[Picture]:
    """Draw losses along each axis; of settings without numbers, what seeds say."""
    axes = _axes(outcomes)
    compared = table.main_comparisons(frozen, outcomes)[:1]
    if compared and compared[0].rows[1:] and not _has_numbers(outcomes, axes):
        (one,) = compared
        yield _save(
            frozen.path, "sweep", picture.svg(one), one.metric, "minus baseline"
        )
        return
    for i, key in enumerate(axes):
        name, unit = frozen.names.get(key, key), _unit(outcomes)
        svg = swept.svg(_lines(key, outcomes, frozen), name=name, unit=unit)
        stem = f"sweep-{i}" if i else "sweep"
        yield _save(frozen.path, stem, svg, f"loss against {name}", unit)


def _has_numbers(outcomes: Sequence[Outcome], axes: Sequence[str]) -> bool:
    return any(settings.is_numeric(outcomes, key) for key in axes)


def _save(path: Path, stem: str, svg: str, title: str, unit: str) -> Picture:
    names = f"{stem}.svg", f"{stem}-dark.svg"
    for file, text in zip(names, (svg, theme.dark(svg)), strict=True):
        atomic_files.write_atomic(path / file, text)
    return Picture("sweep", title, unit, *names)


def _axes(outcomes: Sequence[Outcome]) -> list[str]:
    """Flags for the x-axes: one for a grid, each flag for random points."""
    key = settings.axis(outcomes)
    if key is None or not any(outcome.losses for outcome in outcomes):
        return []
    if any(len(one.outcomes) > 1 for one in settings.along(outcomes, key, {})):
        return [key]
    keys = settings.keys(outcomes)
    numeric = [k for k in keys if settings.is_numeric(outcomes, k)]
    return numeric or [key]


def _lines(key: str, outcomes: Sequence[Outcome], frozen: Frozen) -> list[swept.Line]:
    """One line for each setting of the other flags; points where no two share one."""
    (evaluation,) = evaluations(outcomes)[:1] or [""]
    swept_settings = settings.along(outcomes, key, frozen.names)
    if not any(len(one.outcomes) > 1 for one in swept_settings):
        ended = [o for o in outcomes if o.ended and key in o.unit.point]
        swept_settings = [settings.Setting("", [o.unit.point[key]], [o]) for o in ended]
        return [_line(one, "", evaluation) for one in swept_settings]
    lines = []
    for one in swept_settings:
        label, value = one.label, None
        if key == settings.learning_rate(list(frozen.names)):
            value = sensitivity.of(one)
        if label and value is not None:
            label = f"{label}\nsensitivity {number(value)}"
        lines.append(_line(one, label, evaluation))
    return lines


def _line(one: settings.Setting, label: str, evaluation: str) -> swept.Line:
    """One line of the picture, without units that may still get a loss."""
    ended = [i for i, outcome in enumerate(one.outcomes) if outcome.ended]
    losses = settings.losses(one, evaluation)
    return swept.Line(
        label=label,
        values=[one.values[i] for i in ended],
        losses=[losses[i] for i in ended],
        untrained=settings.untrained(one.outcomes),
    )


def _html(
    frozen: Frozen, outcomes: Sequence[Outcome], pictures: Sequence[Picture]
) -> str:
    title = f"Sweep {frozen.name}".rstrip()
    ended = sum(outcome.unit.finished for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    state = f"{ended} of {len(outcomes)} units finished"
    if failed:
        state += f', <span class="warn">{failed} failed</span>'
    figures = "".join(page.figure(one, folder=".") for one in pictures)
    parts = [
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="meta">{state} · {escape(str(frozen.path))}</p>\n',
        f"<h2>Loss</h2>\n{_lay_out(figures, frozen)}" if figures else "",
        _evidence(frozen, outcomes),
        _sensitivities(frozen, outcomes),
        f"<h2>Units</h2>\n{_table(frozen, outcomes)}",
        *(f"<p>{escape(line)}</p>\n" for line in table.failures(outcomes)),
    ]
    return page.document(title, parts)


def _lay_out(figures: str, frozen: Frozen) -> str:
    """Lay figures out in columns; a single one with a legend gets more room."""
    if len(frozen.names) > 1 and figures.count("<figure>") == 1:
        return f'<div style="max-width: 46rem">\n{figures}</div>\n'
    return f'<div class="grid">\n{figures}</div>\n'


def _evidence(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    parts = []
    compared = table.main_comparisons(frozen, outcomes)
    for one in compared:
        heads, *body = tables.rows(one)
        lines = [f"<tr>{''.join(f'<th>{escape(x)}</th>' for x in heads)}</tr>\n"]
        for row, cells in zip(one.rows, body, strict=True):
            ours = " class=ours" if row.is_certain else ""
            shown = "".join(f"<td>{escape(picture.plain(x))}</td>" for x in cells)
            lines.append(f"<tr{ours}>{shown}</tr>\n")
        title = escape(picture.plain(tables.title(one)))
        rows = "".join(lines)
        body = f'<div class="scroll"><table class=settings>\n{rows}</table></div>\n'
        if parts:
            parts.append(f"<details><summary>{title}</summary>\n{body}</details>\n")
        else:
            parts.append(f"<h3>{title}</h3>\n{body}")
    if not parts:
        return ""
    note = escape(tables.note(compared))
    note = f'<p class="meta">{note}. All metrics: evidence.csv.</p>\n'
    first, *rest = parts
    return f"<h2>Over seeds</h2>\n{first}{note}{''.join(rest)}"


def _sensitivities(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    sensitivities = table.sensitivities(frozen, outcomes)
    if not sensitivities:
        return ""
    lengths = [value for _, value in sensitivities]
    lines = [
        f"<tr><td>{escape(label) or 'all'}</td><td>{number(value)}</td>"
        f'<td class="bar">{page.bar(value, among=lengths)}</td></tr>\n'
        for label, value in sensitivities
    ]
    note = (
        "Mean over the learning rates of the loss, or of the loss at initialisation "
        "where that is less, minus the best (arXiv:2309.14322). Less is better."
    )
    if line := table.initialization_note(frozen, outcomes):
        note += f" {line}."
    return (
        '<h2>Learning-rate sensitivity</h2>\n<div class="scroll"><table>\n'
        f'{"".join(lines)}</table></div>\n<p class="meta">{note}</p>\n'
    )


def _table(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    winner = table.winning(frozen, outcomes)
    heads = "".join(f"<th>{escape(x)}</th>" for x in table.titles(frozen, outcomes))
    lines = []
    for outcome, row in zip(outcomes, table.rows(frozen, outcomes), strict=True):
        first = escape(row[0])
        if (outcome.unit.path / "report.html").exists():
            first = (
                f'<a href="units/{escape(outcome.unit.name)}/report.html">{first}</a>'
            )
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        ours = " class=ours" if outcome is winner else ""
        lines.append(f"<tr{ours}><td>{first}</td>{cells}</tr>\n")
    body = f"<tr>{heads}</tr>\n{''.join(lines)}"
    return f'<div class="scroll"><table>\n{body}</table></div>\n'


def _unit(outcomes: Sequence[Outcome]) -> str:
    (evaluation,) = evaluations(outcomes)[:1] or [""]
    target = next((o.target for o in outcomes if o.losses), "token")
    return f"{evaluation}, {units.of_loss(target)}"
