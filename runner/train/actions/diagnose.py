"""The hook that writes the gradient of each term, and how the terms conflict."""

from collections.abc import Iterator

import numpy as np

from runner.evaluation.diagnostics import Diagnosis
from runner.state.train_state import TrainState
from runner.train.actions.context import HookContext
from runner.train.actions.hook import Hook
from runner.train.actions.periodic import StateHook


def diagnose(context: HookContext) -> Hook:
    """Write `diagnostics/*`, and print a line for each conflict of two terms.

    `<part>_gradient_norm/<term>` and `<part>_cosine/<term>/<term>` are of the trunk and
    of the head; the cosines are an image too, and the load of experts a histogram.
    """
    every = context.config.diagnostics.every

    def write(step: int, *, state: TrainState) -> None:
        from runner.report import heat_map  # imports matplotlib

        diagnosis, writer = context.diagnose(state), context.writer
        writer.write_scalars(step, dict(_scalars(diagnosis)))
        for part in diagnosis.inner:
            image = heat_map.pixels(diagnosis.terms, diagnosis.cosines(part))
            writer.write_images(step, {f"diagnostics/{part}_cosine": image})
        if diagnosis.expert_load is not None:
            layers = {
                f"diagnostics/expert_load/{i}": load
                for i, load in enumerate(diagnosis.expert_load)
            }
            writer.write_histograms(step, layers)
        for conflict in diagnosis.conflicts():
            one, other = conflict.terms
            context.terminal.print(
                f"step {step}  {one} and {other} pull apart in the {conflict.part} "
                f"(cosine {conflict.cosine:.2f})"
            )

    return StateHook(
        write,
        every=every,
        # Off is off: not even at the last step.
        last=context.num_steps if every else None,
        start=context.start,
        pause=context.pause("diagnosing"),
    )


def _scalars(diagnosis: Diagnosis) -> Iterator[tuple[str, float]]:
    for name, value in diagnosis.scalars.items():
        yield f"diagnostics/{name}", value
    for part in diagnosis.inner:
        norms, cosines = diagnosis.norms(part), diagnosis.cosines(part)
        for i, term in enumerate(diagnosis.terms):
            yield f"diagnostics/{part}_gradient_norm/{term}", float(norms[i])
            for j in range(i):
                cosine = float(cosines[i, j])
                if np.isfinite(cosine):  # NaN where a gradient is zero
                    other = diagnosis.terms[j]
                    yield f"diagnostics/{part}_cosine/{other}/{term}", cosine
