"""The table of losses by the kinds of teachers that they learn from.

python -m tests.losses.teacher_kinds            # print it
python -m tests.losses.teacher_kinds --write    # and put it into docs/objectives.md

Made from what each loss `needs`, and from what it refuses to read of records.
"""

import copy
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import losses
from losses import LossTerm, RecordSpec, SparseMode
from runner.errors import UserError
from runner.step.requirements import TEACHER, check_teacher
from runner.teachers.base import LoadedTeacher
from tests.drawn import Drawn
from tests.losses.table import LOSSES

PLACE = Drawn(
    Path(__file__).parents[2] / "docs" / "objectives.md",
    begin="<!-- losses by teacher: `python -m tests.losses.teacher_kinds --write` -->",
    end="<!-- end of losses by teacher -->",
)
YES, NO = "yes", "–"
ALIGNED = "`Aligned`"


class Kind(LoadedTeacher):
    """A teacher of some kind, as the check of an experiment's terms sees it."""

    def __init__(self, paths: frozenset[str], stored: RecordSpec | None):
        self._paths, self.stored = paths, stored

    def offers(self):
        return self._paths

    def describe(self):
        raise NotImplementedError

    def trunk(self, *arguments, **options):
        raise NotImplementedError


def kinds(loss: losses.Loss) -> dict[str, LoadedTeacher | None]:
    """Return a teacher of each kind, by the head of its column."""
    needed = {p.removeprefix(TEACHER) for p in loss.needs if p.startswith(TEACHER)}
    spans = frozenset(path for path in needed if path.startswith("spans/"))
    everything, nothing = frozenset(needed) - spans, frozenset[str]()
    temperatures = (1.0, getattr(loss, "temperature", 1.0))
    modes = {"`TopK`": "top_k", "`Sampled`": "sampled", "`Full`": "full"}
    return {
        "none": None,
        "`OnlineTeacher`, `EMATeacher`, `StartTeacher`": Kind(everything, None),
        "`EnsembleTeacher`, `FusedTeacher`": Kind(nothing, None),
        ALIGNED: Kind(
            spans, RecordSpec(mode="top_k", temperatures=temperatures, partial=True)
        ),
        **{
            title: Kind(nothing, RecordSpec(mode=mode, temperatures=temperatures))
            for title, mode in modes.items()
        },
    }


def variants(loss: losses.Loss) -> Iterator[tuple[str, losses.Loss]]:
    """Yield a loss, and what it is with other conventions for what is stored."""
    yield YES, loss
    choices = {"sparse": get_args(SparseMode), "target": ("teacher",)}
    for field, values in choices.items():
        for value in values if hasattr(loss, field) else ():
            try:
                other = dataclasses.replace(loss, **{field: value})
            except ValueError:  # no convention of this loss
                continue
            yield f'`{field}="{value}"`', other
    if getattr(loss, "reference", ()) is None:
        columns = dataclasses.replace(loss, reference=("chosen", "rejected"))
        yield "`reference=(...)`", columns
    inner = getattr(loss, "loss", None)
    if inner is not None:
        for said, variant in itertools.islice(variants(inner), 1, None):
            around = copy.copy(loss)
            object.__setattr__(around, "loss", variant)
            yield said.replace("`", "`loss.", 1), around


def cell(loss: losses.Loss, title: str) -> str:
    """Return how a loss learns from a kind of teacher, `–` if it does not."""
    for said, variant in variants(loss):
        # It needs no output of a teacher, but what that one says of the rows.
        if isinstance(variant, losses.AlignedShare) and title != ALIGNED:
            continue
        try:
            term = LossTerm(name="term", loss=variant)
            check_teacher([term], kinds(variant)[title])
        except UserError:
            continue
        return said
    return NO


def instances() -> Mapping[str, losses.Loss]:
    """Return one instance of each loss by name: the first of the table of losses."""
    by_name: dict[str, losses.Loss] = {}
    for row in LOSSES.values():
        loss, inner = row.loss, getattr(row.loss, "loss", None)
        name = type(loss).__name__
        if inner is not None:
            name = f"{name}(loss={type(inner).__name__})"
        by_name.setdefault(name, loss)
    return by_name


def draw() -> str:
    """Return the table in Markdown, losses in the order of their names."""
    by_name = instances()
    titles = list(kinds(losses.CrossEntropy()))
    lines = [f"| loss | {' | '.join(titles)} |", f"|---{'|---' * len(titles)}|"]
    for name in sorted(by_name, key=str.lower):
        cells = [cell(by_name[name], title) for title in titles]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PLACE.write(draw())
    print(draw())
