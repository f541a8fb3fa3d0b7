"""Teachers combined: mixtures of distributions, sums of logits."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

import losses
from runner.errors import UserError
from runner.teachers.base import (
    LoadedTeacher,
    Teacher,
    TeacherContext,
    digest,
)
from runner.teachers.members import LoadedMembers, Several
from runner.teachers.offline import LoadedRecords
from runner.teachers.recorded_members import LoadedRecordMembers, mixture

Tree = Any
IMPOSSIBLE = -1e5
"""Logit that an impossible entry (-inf) counts as, nats."""

Combine = Callable[[Sequence[jax.Array]], jax.Array]


class Combined(Several):
    """Teachers whose outputs, on the same tokens, become one teacher's.

    They are models, or all are records (`OfflineTeacher`) of the same rows.
    """

    @abc.abstractmethod
    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        """Combine the logits `[*b v]` of the members, in order, to one `[*b v]`."""

    @property
    def beside(self) -> Mapping[str, Combine]:
        """Return functions like `combine`, to `[*b]`, that losses may read, by path."""
        return {}

    def identity(self) -> str:
        parts = [member.identity() for member in self.members().values()]
        return digest(f"{self.describe()} {parts}")

    @property
    @abc.abstractmethod
    def entrywise(self) -> bool:
        """True if an entry of `combine` depends on that entry of the members alone."""

    @abc.abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return the combination as JSON values, without the members."""

    def combine_entries(
        self, members: Sequence[losses.TeacherOutputs]
    ) -> losses.TeacherOutputs:
        """Combine best entries of the members, from records, to those of one teacher.

        Raises:
          UserError: the combination wants whole logits.
        """
        raise UserError(
            f"teacher: {type(self).__name__} wants whole logits, and the records hold "
            "best entries; record it with Full(), or record the combination"
        )

    @property
    def temperatures_of_entries(self) -> tuple[float, ...] | None:
        """Temperatures of `combine_entries`; None for those of the records."""
        return None

    def load(self, context: TeacherContext) -> "LoadedCombined | LoadedRecordMembers":
        loaded = {name: x.load(context) for name, x in self.members().items()}
        records = {n: x for n, x in loaded.items() if isinstance(x, LoadedRecords)}
        if len(records) == len(loaded):
            return self._of_records(records)
        return LoadedCombined(
            loaded,
            self.combine,
            self.describe(),
            entrywise=self.entrywise,
            beside=self.beside,
        )

    def _of_records(self, records: Mapping[str, LoadedRecords]) -> LoadedRecordMembers:
        first = next(iter(records.values())).stored
        if first is not None and first.mode != "full":
            self.combine_entries([])  # refuses what wants whole logits
            return LoadedRecordMembers(
                records,
                self.combine_entries,
                self.describe(),
                temperatures=self.temperatures_of_entries,
            )
        return LoadedRecordMembers(records, self._combine_whole, self.describe())

    def _combine_whole(
        self, members: Sequence[losses.TeacherOutputs]
    ) -> losses.TeacherOutputs:
        logits = [x.logits for x in members if x.logits is not None]
        return losses.TeacherOutputs(logits=self.combine(logits))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleTeacher(Combined):
    """The weighted mean of several teachers: models, or records.

    Over records of best entries it is a mixture at temperature 1: an entry has what the
    teachers say that stored it, and all else is in the rest.

    Attributes:
      teachers: at least one.
      weights: positive, divided by their sum; None for equal ones.
      average: `"probabilities"`: `log Σ_i w_i softmax(t_i)_v`, a mixture (Hinton et al.
        2015, arXiv:1503.02531, section 1); `"logits"`: `Σ_i w_i t_i,v`, whose softmax
        is the normalised geometric mean.

    Raises:
      ValueError: no teacher, or weights that are not one positive number each.
    """

    teachers: Sequence[Teacher]
    weights: Sequence[float] | None = None
    average: Literal["probabilities", "logits"] = "probabilities"

    def __post_init__(self):
        if not self.teachers:
            raise ValueError("teachers must hold at least one teacher")
        if self.weights is not None and (
            len(self.weights) != len(self.teachers)
            or not all(w > 0 and math.isfinite(w) for w in self.weights)
        ):
            raise ValueError(
                f"weights must be {len(self.teachers)} positive numbers, "
                f"got {self.weights}"
            )
        if self.average not in ("probabilities", "logits"):
            raise ValueError(
                f"average must be 'probabilities' or 'logits', got {self.average!r}"
            )

    def members(self) -> Mapping[str, Teacher]:
        return {f"teachers[{i}]": t for i, t in enumerate(self.teachers)}

    def shares(self) -> list[float]:
        """Return the weights, adding up to 1."""
        weights = self.weights or [1.0] * len(self.teachers)
        return [w / sum(weights) for w in weights]

    def combine_entries(
        self, members: Sequence[losses.TeacherOutputs]
    ) -> losses.TeacherOutputs:
        if self.average == "logits":
            return super().combine_entries(members)
        return mixture(members, self.shares()) if members else losses.TeacherOutputs()

    @property
    def temperatures_of_entries(self) -> tuple[float, ...]:
        return (1.0,)

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        if self.average == "logits":
            weighted = [w * x for w, x in zip(self.shares(), logits, strict=True)]
            return sum(weighted[1:], weighted[0])
        logs = [
            jax.nn.log_softmax(x) + math.log(w)
            for w, x in zip(self.shares(), logits, strict=True)
        ]
        return jax.nn.logsumexp(jnp.stack(logs), axis=0)

    @property
    def entrywise(self) -> bool:
        return self.average == "logits"

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "ensemble", "average": self.average, "weights": self.shares()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusedTeacher(Combined):
    """`base + scale · (expert - antiexpert)`, on logits.

    The difference that training made to `expert` over `antiexpert`, added to a `base`
    without that training; a constant added to any member's logits changes nothing.

    Source: Liu et al. 2024, proxy tuning (arXiv:2401.08565), section 2, scale 1;
    Liu et al. 2021, DExperts (arXiv:2105.03023), eq. 1.

    Raises:
      ValueError: scale is not finite.
    """

    base: Teacher
    expert: Teacher
    antiexpert: Teacher
    scale: float = 1.0

    def __post_init__(self):
        if not math.isfinite(self.scale):
            raise ValueError(f"scale must be finite, got {self.scale}")

    def members(self) -> Mapping[str, Teacher]:
        return {
            "base": self.base,
            "expert": self.expert,
            "antiexpert": self.antiexpert,
        }

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        # What is impossible to both differs in nothing; -inf from -inf would be NaN.
        base, *tuned = logits
        expert, antiexpert = (jnp.maximum(x, IMPOSSIBLE) for x in tuned)
        return base + self.scale * (expert - antiexpert)

    @property
    def entrywise(self) -> bool:
        return True

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "fused", "scale": self.scale}


class LoadedCombined(LoadedMembers):
    """Members combined by a function of their logits, in their order."""

    def __init__(
        self,
        members: Mapping[str, LoadedTeacher],
        combine: Combine,
        description: Mapping[str, Any],
        *,
        entrywise: bool,
        beside: Mapping[str, Combine] | None = None,
    ):
        super().__init__(members)
        self._combine, self._description = combine, description
        self._beside = beside or {}
        self.entrywise = entrywise

    def describe(self) -> Mapping[str, Any]:
        members = {name: member.describe() for name, member in self.members.items()}
        return {**self._description, **members}

    def combined(self, logits: Mapping[str, jax.Array], of_rows: Tree) -> jax.Array:
        del of_rows
        return self._combine(list(logits.values()))

    def offers(self) -> frozenset[str]:
        return frozenset(self._beside)

    def beside(self, logits: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {
            path: function(list(logits.values()))
            for path, function in self._beside.items()
        }
