"""A start from the weights of another run."""

import dataclasses

from models.quantized import wrapper as quantized
from runner.checkpoint.presence import require_checkpoints
from runner.starts.base import StartContext
from runner.starts.weights_start import Weights, WeightsStart, wanted
from runner.weights import adapters, identity
from runner.weights.run import RunWeights, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(WeightsStart):
    """The student of another run; optimiser, schedule and step begin anew.

    Adapters go into the kernels of a student that has none. Of a `models.Quantized` a
    student of that kind takes the parameters, any other the values on the grid.

    Attributes:
      workdir: of that run.
      step: of its checkpoint; `"best"` for the one that its `keep_best` kept; None for
        the newest whole one, when this run begins.
    """

    workdir: str
    step: Step = None

    def check(self) -> None:
        require_checkpoints(self.workdir)

    def weights(self, context: StartContext) -> Weights:
        run = RunWeights(self.workdir, begun_step(self.step, context))
        weights = identity.speaking(
            run, context.dataset.vocabulary, cache=context.cache
        )
        if adapters.has_any(wanted(context)[0]):
            tensors = weights.tensors()
        else:
            as_read = not quantized.has_any(context.student)
            tensors = adapters.merged(weights, as_read=as_read).tensors
        return Weights(
            source={
                "path": self.workdir,
                "step": run.step,
                "digest": weights.digest,
            },
            tensors=tensors,
        )


def begun_step(step: Step, context: StartContext) -> Step:
    """Return the step asked for, or the one that a run began from before it was killed.

    The other run may have gone on since.
    """
    if isinstance(step, int) or context.began is None:
        return step
    return context.began["source"]["step"]
