"""A start from the whole state of another run: the same run, made longer."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.checkpoint import best
from runner.checkpoint.presence import require_checkpoints
from runner.errors import prefixed
from runner.starts.base import LoadedStart, Start, StartContext
from runner.starts.run import begun_step
from runner.state.train_state import TrainState
from runner.weights.run import RunWeights, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continued(Start):
    """All of another run at a checkpoint: weights, optimiser, step, place in the data.

    With a larger `num_steps` and the same everything else, it is the run that would
    have been that long from its first step, bit for bit. The same student, terms and
    optimiser must be declared, or the states do not fit.

    Attributes:
      workdir: of that run.
      step: as `Run.step`.
    """

    workdir: str
    step: Step = None

    def check(self) -> None:
        require_checkpoints(self.workdir)

    def load(self, context: StartContext) -> "LoadedRun":
        with prefixed("start"):
            return LoadedRun(self, context)


class LoadedRun(LoadedStart):
    """The state of a run, to be restored into another work directory."""

    def __init__(self, node: Continued, context: StartContext):
        from runner.checkpoint.checkpoints import Checkpoints

        self._node, self._context = node, context
        weights = RunWeights(node.workdir, begun_step(node.step, context))
        self._step, self._digest = weights.step, weights.digest
        weights.check_vocabulary(context.dataset.vocabulary, cache=context.cache)
        self._checkpoints = Path(node.workdir).expanduser() / "checkpoints"
        with Checkpoints(self._checkpoints, keep=1) as checkpoints:
            memories = checkpoints.memories(self._step)
        # The best checkpoint so far lies there, not here: the search begins anew.
        self.memories = {k: v for k, v in memories.items() if k != best.MEMORY}

    def state(self) -> TrainState:
        from runner.checkpoint.checkpoints import Checkpoints

        context = self._context
        abstract = context.modules.abstract(context.mesh, context.rules)
        with prefixed("start"), Checkpoints(self._checkpoints, keep=1) as checkpoints:
            return checkpoints.restore(self._step, abstract)

    def describe(self) -> Mapping[str, Any]:
        path, step = self._node.workdir, self._step
        return {"source": {"path": path, "step": step, "digest": self._digest}}

    @property
    def summary(self) -> str:
        return f"start: {self._node.workdir}, whole, after step {self._step}"
