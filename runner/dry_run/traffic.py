"""Collective communication of a step."""

from collections.abc import Iterator

from runner.dry_run.compiling import Attempt
from runner.dry_run.hlo import collectives
from runner.dry_run.memory import aligned, size
from runner.train.setup import Setup


def table(setup: Setup, attempt: Attempt) -> Iterator[str]:
    """Collectives by kind and mesh axes, of one device in one step."""
    if attempt.program is None:
        yield "collectives not known: nothing was compiled"
        return
    text = attempt.program.as_text()
    if text is None:  # not every backend tells
        return
    operations = collectives.of(text, setup.mesh.shape)
    if not operations:
        yield "no collectives"
        return
    rows = [
        ("collectives of one device a step", "along", "of", "times", "bytes", "sent")
    ]
    for one in operations:
        rows.append(
            (
                f"  {one.kind}",
                "?" if one.axes is None else "+".join(one.axes) or "no axis",
                f"{one.group:,}",
                f"{one.count:,}{'+' if one.open else ''}",
                size(one.bytes),
                size(one.sent),
            )
        )
    rows.append(
        ("  together", "", "", "", "", size(sum(one.sent for one in operations)))
    )
    yield from aligned(rows, numbers=(2, 3, 4, 5))
    yield "  bytes: of the whole arrays; sent: by each device of a ring of so many"
    if any(one.open for one in operations):
        yield "  +: at least; a loop as long as its data decide is counted as one trip"
