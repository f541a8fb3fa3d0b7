"""What each term does to the gradient, written down now and then."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from runner.evaluation.diagnostics import Diagnosis
from runner.train.actions.on_state import StateAction
from runner.writers.clu import metric_writers
from runner.writers.stopwatch import Stopwatch


class Diagnose(StateAction):
    """Writes `diagnostics/*`, and says which terms pull apart.

    `<part>_gradient_norm/<term>` and `<part>_cosine/<term>/<term>` are of the trunk and
    of the head; the cosines are an image too, and the load of experts a histogram.

    diagnose: a function of the state.
    draw:     `(terms, cosines) -> [height width 3]` uint8.
    say:      where a line goes for each pair of terms with a negative cosine.
    """

    doing = "diagnosing"

    def __init__(
        self,
        diagnose: Callable[[Any], Diagnosis],
        *,
        writer: metric_writers.MetricWriter,
        draw: Callable[[Any, np.ndarray], np.ndarray],
        say: Callable[[str], None],
        every: int,
        last: int | None = None,
        start: int = 0,
        stopwatch: Stopwatch,
    ):
        super().__init__(
            self._diagnose, every=every, last=last, start=start, stopwatch=stopwatch
        )
        self._found, self._writer, self._draw, self._say = diagnose, writer, draw, say

    def _diagnose(self, step: int, *, state: Any, **_: Any) -> None:
        found = self._found(state)
        self._writer.write_scalars(step, dict(_scalars(found)))
        for part in found.inner:
            image = self._draw(found.terms, found.cosines(part))
            self._writer.write_images(step, {f"diagnostics/{part}_cosine": image})
        if found.expert_load is not None:
            layers = {
                f"diagnostics/expert_load/{i}": load
                for i, load in enumerate(found.expert_load)
            }
            self._writer.write_histograms(step, layers)
        for conflict in found.conflicts():
            one, other = conflict.terms
            self._say(
                f"step {step}  {one} and {other} pull apart in the {conflict.part} "
                f"(cosine {conflict.cosine:.2f})"
            )


def _scalars(found: Diagnosis) -> Iterator[tuple[str, float]]:
    for name, value in found.scalars.items():
        yield f"diagnostics/{name}", value
    for part in found.inner:
        norms, cosines = found.norms(part), found.cosines(part)
        for i, term in enumerate(found.terms):
            yield f"diagnostics/{part}_gradient_norm/{term}", float(norms[i])
            for j in range(i):
                if np.isfinite(cosines[i, j]):
                    other = found.terms[j]
                    yield (
                        f"diagnostics/{part}_cosine/{other}/{term}",
                        float(cosines[i, j]),
                    )
