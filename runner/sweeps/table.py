"""The table that a sweep ends in: one row a unit, in the order of the points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runner.evidence import comparison, tables
from runner.files.printable import printable
from runner.report import units
from runner.report.results import number
from runner.sweeps import seeds, sensitivity, settings
from runner.sweeps.frozen import Frozen
from runner.sweeps.outcome import Outcome, best, evaluations

SENSITIVITY = "learning-rate sensitivity, {} (arXiv:2309.14322)"


def text(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    """Return the table for a terminal, the best row marked.

      unit  peak_value  z_loss.weight  nats/token  state
        00       0.001            0.0       4.812  finished
    >   01       0.003            0.0       4.440  finished
        02        0.01            0.0           –  failed, exit code 1
    """
    heads, body = titles(frozen, outcomes), rows(frozen, outcomes)
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    winner = winning(frozen, outcomes)
    lines = [f"  {_align(heads, widths)}"]
    lines += [
        f"{'>' if outcome is winner else ' '} {_align(row, widths)}"
        for outcome, row in zip(outcomes, body, strict=True)
    ]
    parts = ["\n".join(lines), tables.text(main_comparisons(frozen, outcomes))]
    parts.append(_sensitivities(frozen, outcomes))
    parts.append("\n".join(f"  {failure}" for failure in failures(outcomes)))
    return printable("\n\n".join(part for part in parts if part))


def markdown(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    """Return the table for `sweep.md`."""
    winner = winning(frozen, outcomes)
    bold = [
        [f"**{cell}**" for cell in row] if outcome is winner else row
        for outcome, row in zip(outcomes, rows(frozen, outcomes), strict=True)
    ]
    parts = [
        f"# Sweep {frozen.name}".rstrip(),
        _markdown_table(titles(frozen, outcomes), bold),
        tables.markdown(main_comparisons(frozen, outcomes)),
    ]
    if by_setting := sensitivities(frozen, outcomes):
        cells = [[label or "all", number(value)] for label, value in by_setting]
        parts.append(
            _markdown_table(["setting", SENSITIVITY.format(_unit(outcomes))], cells)
        )
        parts.append(initialization_note(frozen, outcomes))
    parts.append("\n".join(f"* {failure}" for failure in failures(outcomes)))
    return "\n\n".join(part for part in parts if part) + "\n"


def winning(frozen: Frozen, outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the best unit; over seeds none, since a lucky seed is no winner."""
    return None if seeds.axis(frozen.names) else best(outcomes)


def titles(frozen: Frozen, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the titles of the columns."""
    unit = _unit(outcomes)
    names = evaluations(outcomes)
    losses = [f"{name} {unit}" for name in names] if names[1:] else [unit]
    return ["unit", *frozen.names.values(), *losses, "state"]


def rows(frozen: Frozen, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return the cells of every row."""
    names = evaluations(outcomes) or [""]
    return [
        [
            outcome.unit.name.partition("-")[0],
            *(_value(outcome.unit.point, key) for key in frozen.names),
            *(number(outcome.losses.get(name)) for name in names),
            outcome.state.partition(": ")[0],
        ]
        for outcome in outcomes
    ]


def sensitivities(
    frozen: Frozen, outcomes: Sequence[Outcome]
) -> list[tuple[str, float]]:
    """Return the learning-rate sensitivity of each setting, where defined."""
    by_setting = [
        (one.label, sensitivity.of(one)) for one in _by_rate(frozen, outcomes)
    ]
    return [(label, value) for label, value in by_setting if value is not None]


def initialization_note(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    """Return a note on units that count with the loss at initialisation, if any."""
    names = sensitivity.without_loss(_by_rate(frozen, outcomes))
    numbers = ", ".join(name.partition("-")[0] for name in names)
    verb = "count" if len(names) > 1 else "counts"
    return f"{numbers} {verb} with the loss at initialisation" if names else ""


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the last message of each failed unit."""
    return [
        f"{outcome.unit.name.partition('-')[0]}: {outcome.state}"
        for outcome in outcomes
        if outcome.failed
    ]


def results(frozen: Frozen, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the content of `results.json`; numbers that are not finite are null."""
    winner = best(outcomes)
    return {
        "sweep": frozen.name,
        "best": winner and winner.unit.name,
        "units": [
            {
                "name": outcome.unit.name,
                "point": {k: _plain(x) for k, x in outcome.unit.point.items()},
                "state": outcome.state,
                "losses": {k: _plain(x) for k, x in outcome.losses.items()},
                "untrained": {k: _plain(x) for k, x in outcome.untrained.items()},
            }
            for outcome in outcomes
        ],
        "learning_rate": settings.learning_rate(list(frozen.names)),
        "sensitivity": dict(sensitivities(frozen, outcomes)),
        "evidence": tables.to_json(seeds.comparisons(frozen, outcomes)),
    }


def main_comparisons(
    frozen: Frozen, outcomes: Sequence[Outcome]
) -> list[comparison.Comparison]:
    """Return the comparisons over seeds that a reader sees, less terms and teacher."""
    compared = seeds.comparisons(frozen, outcomes)
    return [one for one in compared if one.metric.count("/") == 1]


def _by_rate(frozen: Frozen, outcomes: Sequence[Outcome]) -> list[settings.Setting]:
    key = settings.learning_rate(list(frozen.names))
    return settings.along(outcomes, key, frozen.names) if key else []


def _sensitivities(frozen: Frozen, outcomes: Sequence[Outcome]) -> str:
    """Return the lines on sensitivity for a terminal."""
    by_setting = sensitivities(frozen, outcomes)
    if not by_setting:
        return ""
    width = max(len(label) for label, _ in by_setting)
    lines = [f"  {SENSITIVITY.format(_unit(outcomes))}"]
    lines += [f"    {label:{width}}  {number(value)}" for label, value in by_setting]
    lines += [f"    {line}" for line in [initialization_note(frozen, outcomes)] if line]
    return "\n".join(lines)


def _markdown_table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = [*("---:" for _ in heads[:-1]), "---"]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *body))


def _unit(outcomes: Sequence[Outcome]) -> str:
    target = next((o.target for o in outcomes if o.losses), "token")
    return units.of_loss(target).replace(" per ", "/")


def _value(point: Mapping[str, Any], key: str) -> str:
    return str(point[key]) if key in point else "–"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    is_json = value is None or isinstance(value, (bool, int, float, str))
    return value if is_json else repr(value)


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    right = [f"{x:>{width}}" for x, width in zip(cells, widths, strict=True)]
    return "  ".join([*right[:-1], cells[-1]])
