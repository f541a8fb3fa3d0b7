"""A part of another start."""

import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase

from runner.errors import UserError, nearest
from runner.starts.base import StartContext
from runner.starts.weights_start import Weights, WeightsStart, wanted
from runner.weights import tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Only(WeightsStart):
    """The parameters of another start whose paths match; all others are fresh.

    Attributes:
      start: gives the weights.
      parameters: patterns of paths of the student as in `parameters.txt`, with layers
        numbered: `blocks/*`, `*/attention/*`. A `*` crosses a `/`.
    """

    start: WeightsStart
    parameters: Sequence[str]

    def weights(self, context: StartContext) -> Weights:
        loaded = self.start.weights(context)
        separate = tensors.unstacked(loaded.tensors)
        for pattern in self.parameters:
            if not any(fnmatchcase(path, pattern) for path in separate):
                raise UserError(
                    f"no parameter matches '{pattern}'{nearest(pattern, separate)}"
                )
        matching = {
            path: tensor
            for path, tensor in separate.items()
            if any(fnmatchcase(path, pattern) for pattern in self.parameters)
        }
        student, _ = wanted(context)
        loaded_paths = matching.keys() | tensors.stacked(matching).keys()
        return dataclasses.replace(
            loaded,
            tensors=matching,
            fresh=frozenset(student) - loaded_paths,
        )
