"""Starts from tensors: each array of the student is loaded, cut, or made fresh."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from models.adapters import low_rank
from models.layers import STACKED
from runner.checkpoint import tree_paths
from runner.errors import UserError, nearest, prefixed
from runner.starts.base import LoadedStart, Start, StartContext
from runner.state.train_state import TrainState
from runner.weights import factored_head
from runner.weights import tensors as tensors_lib
from runner.weights.tensors import Tensors

LOADED, CUT, FRESH = "loaded", "cut", "fresh"
_EMBEDDING, _HEAD = "embedding", "output"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors for a student, by the paths of its arrays, one a layer.

    Attributes:
      source: JSON of where they are from: what is equal where every tensor is.
      tensors: by path.
      fresh: paths of the student that are to stay as they are initialized.
    """

    source: Mapping[str, Any]
    tensors: Tensors
    fresh: frozenset[str] = frozenset()


class WeightsStart(Start):
    """A start that gives weights, and leaves optimiser and step at their beginning."""

    @abc.abstractmethod
    def weights(self, context: StartContext) -> Weights:
        """Return tensors for the student.

        Raises:
          UserError: as `load`.
        """

    def load(self, context: StartContext) -> "LoadedWeights":
        with prefixed("start"):
            return LoadedWeights(self.weights(context), context)


class LoadedWeights(LoadedStart):
    """Weights that fit a student, path by path.

    Args:
      weights: the tensors.
      context: the student.

    Attributes:
      outcomes: by path of the student, `LOADED`, `CUT` or `FRESH`.

    Raises:
      UserError: a tensor does not fit, is missing, or has no place in the student.
    """

    def __init__(self, weights: Weights, context: StartContext):
        self._weights, self._context = weights, context
        self._wanted, parameters = wanted(context)
        form = tensors_lib.unstacked(weights.tensors)
        if any(f"/{STACKED}/" in path for path in self._wanted):
            form = tensors_lib.stacked(form)
        self._tensors = _with_head(form, self._wanted)
        self.outcomes = _outcomes(self._wanted, parameters, self._tensors, weights)

    def state(self) -> TrainState:
        loaded = {p: x for p, x in self._wanted.items() if self.outcomes[p] != FRESH}
        with prefixed("start"):
            arrays = tensors_lib.place(loaded, self._tensors)
        context = self._context
        return context.modules.create_from(
            arrays, seed=context.seed, mesh=context.mesh, rules=context.rules
        )

    def describe(self) -> Mapping[str, Any]:
        return {"source": self._weights.source, "parameters": self.outcomes}

    @property
    def summary(self) -> str:
        counts = {kind: 0 for kind in (LOADED, CUT, FRESH)}
        for outcome in self.outcomes.values():
            counts[outcome] += 1
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
        return f"start: {self._weights.source['path']}: {told} of {len(self.outcomes)}"


def wanted(
    context: StartContext,
) -> tuple[dict[str, jax.ShapeDtypeStruct], frozenset[str]]:
    """Return the student's arrays by path, and which of them are its parameters."""
    state = context.modules.abstract(context.mesh, context.rules)
    params = tree_paths.by_path(state.params["student"])
    frozen = context.modules.frozen(state.variables)
    arrays = params | tree_paths.by_path(state.variables["student"])
    return arrays, frozenset(params) | frozenset(frozen)


def _with_head(tensors: Tensors, wanted: Mapping[str, Any]) -> Tensors:
    """A head begins as the embedding where the start ties both, or in two factors."""
    if _HEAD in wanted and _HEAD not in tensors and _EMBEDDING in tensors:
        tensors = {**tensors, _HEAD: tensors[_EMBEDDING]}
    factor = wanted.get(factored_head.FACTOR)
    if factor is None or factored_head.FACTOR in tensors or _HEAD not in tensors:
        return tensors
    rank, width = factor.shape[1], tensors[_HEAD].shape[1]
    if rank > width:
        raise UserError(f"student.head_rank is {rank}, more than the {width} of a head")
    return factored_head.begun(tensors, rank=rank)


def _outcomes(
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    parameters: frozenset[str],
    tensors: Tensors,
    weights: Weights,
) -> dict[str, str]:
    """Return what becomes of every array of the student.

    Raises:
      UserError: one is not explained, or a tensor is left over.
    """
    path_of = weights.source["path"]
    outcomes = {}
    for path, leaf in wanted.items():
        tensor = tensors.get(path)
        may_lack = path not in parameters or low_rank.is_of(path)
        if path in weights.fresh or (tensor is None and may_lack):
            outcomes[path] = FRESH
            continue
        if tensor is None:
            raise UserError(
                f"{path_of} has nothing for {path} of the student"
                f"{nearest(path, tensors)}\n{_ADVICE}"
            )
        if tensor.shape != leaf.shape:
            raise UserError(
                f"{path} is {list(leaf.shape)} in the student, {list(tensor.shape)} in "
                f"{path_of}\n{_ADVICE}"
            )
        outcomes[path] = CUT if tensor.cut_from else LOADED
    left = sorted(tensors.keys() - wanted.keys(), key=tensors_lib.layer_of)
    if left:
        more = f" and {len(left) - 1} more" if left[1:] else ""
        raise UserError(
            f"the student has no place for {left[0]}{more} of {path_of}\n{_ADVICE}"
        )
    return outcomes


_ADVICE = (
    "starts.Only(start=..., parameters=['blocks/*']) loads a part and leaves the rest "
    "fresh; starts.FromTeacher() cuts layers and widths"
)
