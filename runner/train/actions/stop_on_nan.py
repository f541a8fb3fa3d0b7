"""The hook that ends a run whose metrics are not finite."""

import math
from collections.abc import Mapping, Sequence

from runner.errors import NotFinite
from runner.machine import distributed
from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook

_SHOWN_METRICS, _SHOWN_ROWS = 4, 32


def stop_on_nan(context: HookContext) -> Hook:
    """Raise `NotFinite` as soon as a metric is; name the step, the term and the batch.

    One NaN gradient makes Adam's moments NaN for ever, so there is no going on; the
    last checkpoint is from before. The metrics of the bad step are written first. Of
    several terms the first in the experiment's order is named first, for the others may
    only follow from it. A term of weight 0 is part of nothing: it may be what it likes.
    """
    learning = [f"learning/{term}" for term in context.terms]
    order = [*learning, "learning/total", "optimizer/gradient_norm"]

    def check(
        step: int, *, metrics: Mapping[str, float], rows: Sequence[int] = ()
    ) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        bad = [name for name in bad if name not in unused(metrics)]
        if not bad:
            return
        context.writer.write_scalars(step, metrics)
        context.writer.flush()
        bad.sort(key=lambda name: (_index(order, name), name))
        raise NotFinite(_message(step, metrics, bad, rows))

    return context.on_metrics(check, every=1)


def unused(metrics: Mapping[str, float]) -> set[str]:
    """Return the names under which values of terms that add nothing are logged."""
    return {
        f"learning/{name.removeprefix('contributions/')}"
        for name, contribution in metrics.items()
        if name.startswith("contributions/") and contribution == 0.0
    }


def _message(
    step: int, metrics: Mapping[str, float], bad: Sequence[str], rows: Sequence[int]
) -> str:
    first, *others = bad
    message = f"step {step}: {first} is {metrics[first]}"
    if others:
        more = ", ..." if len(others) > _SHOWN_METRICS else ""
        message += f" (and so are {', '.join(others[:_SHOWN_METRICS])}{more})"
    numbers = distributed.whole(rows).tolist()
    if numbers:
        listed = ", ".join(map(str, numbers[:_SHOWN_ROWS]))
        if len(numbers) > _SHOWN_ROWS:
            listed += f", ... ({len(numbers)} in all)"
        message += f"\nbatch of step {step}: dataset rows {listed}"
    return message + "\nno checkpoint of this state was kept; the last one is good"


def _index(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
