"""A part of another start."""

import dataclasses

from runner.starts.base import StartContext
from runner.starts.weights_start import Weights, WeightsStart, wanted
from runner.state import path_patterns
from runner.state.path_patterns import Patterns
from runner.weights import tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Only(WeightsStart):
    """The parameters of another start whose paths match; all others are fresh.

    Attributes:
      start: gives the weights.
      parameters: patterns of paths as in `parameters.txt`, with layers numbered:
        `blocks/*`, `*/attention/*`, `!embedding` (all but this).
    """

    start: WeightsStart
    parameters: Patterns

    def weights(self, context: StartContext) -> Weights:
        loaded = self.start.weights(context)
        separate = tensors.unstacked(loaded.tensors)
        chosen = path_patterns.chosen(separate, self.parameters)
        matching = {path: x for path, x in separate.items() if path in chosen}
        student, _ = wanted(context)
        loaded_paths = matching.keys() | tensors.stacked(matching).keys()
        return dataclasses.replace(
            loaded,
            tensors=matching,
            fresh=frozenset(student) - loaded_paths,
        )
