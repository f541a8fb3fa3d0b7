"""Several teachers, of which the most confident one teaches each token."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import losses
from runner.errors import UserError
from runner.records.layout import Layout
from runner.teachers.base import Teacher
from runner.teachers.combined import Combined
from runner.teachers.offline import LoadedRecords
from runner.teachers.recorded_members import LoadedRecordMembers, surest


@dataclasses.dataclass(frozen=True, kw_only=True)
class MostConfidentTeacher(Combined):
    """At each token, the teacher whose most probable entry has the most probability.

    The whole distribution of that teacher; of equal ones, the first.

    Attributes:
      teachers: at least one: live models of one vocabulary, or records of the same
        rows, entries and temperatures.

    Raises:
      ValueError: there are no teachers.
      UserError: on `load`, records of other entries or temperatures than the first.
    """

    teachers: Sequence[Teacher]

    def __post_init__(self):
        if not self.teachers:
            raise ValueError("teachers must hold at least one teacher")

    def members(self) -> Mapping[str, Teacher]:
        return {f"teachers[{i}]": t for i, t in enumerate(self.teachers)}

    def _of_records(self, records: Mapping[str, LoadedRecords]) -> LoadedRecordMembers:
        forms = {name: _form(x.records.layout) for name, x in records.items()}
        first = next(iter(forms.values()))
        for name, form in forms.items():
            if form != first:
                raise UserError(
                    f"{name}: its records hold {form}, the first {first}; the most "
                    "confident is chosen of records of one form"
                )
        return super()._of_records(records)

    def combine_entries(
        self, members: Sequence[losses.TeacherOutputs]
    ) -> losses.TeacherOutputs:
        return surest(members) if members else losses.TeacherOutputs()

    def combine(self, logits: Sequence[jax.Array]) -> jax.Array:
        best, chosen = self._confidence(logits[0]), logits[0]
        for own in logits[1:]:
            confidence = self._confidence(own)
            more = confidence > best
            best = jnp.where(more, confidence, best)
            chosen = jnp.where(more, own, chosen)
        return chosen

    @staticmethod
    def _confidence(logits: jax.Array) -> jax.Array:
        """Return `max_v log p_v`, nats, `[*b 1]`."""
        top = jnp.max(logits, axis=-1, keepdims=True)
        return top - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

    @property
    def entrywise(self) -> bool:
        return False

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "most confident"}


def _form(layout: Layout) -> str:
    temperatures = ", ".join(map(str, sorted(layout.temperatures))) or "none"
    return (
        f"{layout.entries} entries ({layout.mode}) at temperatures {temperatures}, "
        f"format {layout.format}"
    )
