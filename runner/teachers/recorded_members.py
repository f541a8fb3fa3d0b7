"""Records of several teachers of the same rows, combined to one teacher's outputs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import losses
from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Arrays, Join, joined
from runner.errors import UserError
from runner.records.reader import PREFIX
from runner.teachers.base import LoadedTeacher, TeacherTrunk
from runner.teachers.offline import LoadedRecords, unpacked

Tree = Any
Merge = Callable[[Sequence[losses.TeacherOutputs]], losses.TeacherOutputs]
_KNOWN = f"{PREFIX}known"
_FORM = ("mode", "entries", "temperatures", "vocab_size", "format")


class LoadedRecordSet(LoadedTeacher):
    """Several records of each row, which come with the batch.

    Args:
      members: by name, of one mode.
      description: of what becomes of them, as JSON values.
      temperatures: that the result has; None for those of the records.

    Raises:
      UserError: the members' records are of several modes, or draws.
    """

    def __init__(
        self,
        members: Mapping[str, LoadedRecords],
        description: Mapping[str, Any],
        *,
        temperatures: tuple[float, ...] | None = None,
    ):
        self.members, self._description = members, description
        specs = [x.stored for x in members.values() if x.stored is not None]
        first = specs[0]
        for name, spec in zip(members, specs, strict=True):
            if spec.mode == "sampled" or spec.mode != first.mode:
                raise UserError(
                    f"{name}: its records hold {spec.mode}, the first {first.mode}; "
                    "combined are records of best entries alone, or of whole logits"
                )
        shared = [
            t for t in first.temperatures if all(t in x.temperatures for x in specs)
        ]
        self.stored = dataclasses.replace(
            first,
            temperatures=tuple(shared) if temperatures is None else temperatures,
            partial=any(spec.partial for spec in specs),
        )
        cautions = [line for x in members.values() for line in x.cautions]
        self.cautions = tuple(dict.fromkeys(cautions))

    def describe(self) -> Mapping[str, Any]:
        members = {name: dict(x.describe()) for name, x in self.members.items()}
        return {**self._description, **members}

    def covers(self, dataset: Dataset) -> bool:
        return all(member.covers(dataset) for member in self.members.values())

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        """Return what joins the record of every member, each under its own prefix."""
        of_members = [member.joins(dataset) for member in self.members.values()]

        def join(rows: Arrays, numbers: np.ndarray) -> Arrays:
            arrays, known = {}, np.ones(rows["mask"].shape, bool)
            for number, joins in enumerate(of_members):
                own, prefix = joined(joins, rows, numbers), _prefix(number)
                known &= own.pop(_KNOWN, known)
                for name, x in own.items():
                    arrays[prefix + name.removeprefix(PREFIX)] = x
            return {**arrays, _KNOWN: known}

        return [join]

    def of_member(self, number: int, batch: Batch) -> losses.TeacherOutputs:
        """Return what the records of one member say of a block, `[*b ...]`."""
        member, prefix = list(self.members.values())[number], _prefix(number)
        assert member.stored is not None
        own = {
            PREFIX + name.removeprefix(prefix): x
            for name, x in batch.items()
            if name.startswith(prefix)
        }
        return unpacked(own, member.stored, member.records.layout.format)


class LoadedRecordMembers(LoadedRecordSet):
    """Several records of each row as one teacher.

    Args:
      members: by name, of one mode.
      merge: outputs of the members, in order, to those of one teacher.
      description: of the combination, as JSON values.
      temperatures: that the result has; None for those of the records.
    """

    def __init__(
        self,
        members: Mapping[str, LoadedRecords],
        merge: Merge,
        description: Mapping[str, Any],
        *,
        temperatures: tuple[float, ...] | None = None,
    ):
        super().__init__(members, description, temperatures=temperatures)
        self._merge = merge

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        del frozen, ema, batch, capture, logits  # all of it lies in the block's batch
        assert self.stored is not None
        return TeacherTrunk(
            tokens={},
            head_params={},
            outputs=self._outputs,
            full_logits=self.stored.mode == "full",
        )

    def _outputs(
        self, head_params: Tree, tokens: Tree, batch: Batch
    ) -> losses.TeacherOutputs:
        del head_params, tokens
        numbers = range(len(self.members))
        return self._merge([self.of_member(number, batch) for number in numbers])


def require_one_form(members: Mapping[str, LoadedRecords]) -> None:
    """Refuse records of several forms.

    Raises:
      UserError: With the first of the members that is not of the first one's form.
    """
    first, *others = members.items()
    for name, member in others:
        for field in _FORM:
            wanted, value = (
                getattr(x.records.layout, field) for x in (first[1], member)
            )
            if value != wanted:
                raise UserError(
                    f"{name}: {field} of its records is {value}, {wanted} of the "
                    "first; wanted: records of one form"
                )


def mixture(
    members: Sequence[losses.TeacherOutputs], shares: Sequence[float]
) -> losses.TeacherOutputs:
    """Return the best entries of `Σ_i w_i p_i`, at temperature 1.

    An entry has what those members say of it that stored it; what the others may have
    said of it is in their rests, and stays in the rest of the mixture: entries are at
    most `Σ_i w_i rest_i` too low in all, and all sums to 1.

    Args:
      members: best entries of each.
      shares: w, adding up to 1.
    """
    ids, mass, rest = [], [], []
    for member, share in zip(members, shares, strict=True):
        assert member.indices is not None and member.logits is not None
        log_z = member.log_normalizer(1.0)[..., None]
        own = share * jnp.exp(member.logits - log_z)
        ids.append(member.indices)
        mass.append(own)
        if 1.0 in member.log_rests:
            rest.append(share * jnp.exp(member.log_rests[1.0] - log_z[..., 0]))
        else:
            rest.append(jnp.maximum(share - jnp.sum(own, axis=-1), 0.0))
    width = max(x.shape[-1] for x in ids)
    distinct, total = _merged(
        jnp.concatenate(ids, axis=-1), jnp.concatenate(mass, axis=-1), len(members)
    )
    best, at = jax.lax.top_k(total, width)
    left = jnp.maximum(jnp.sum(jnp.maximum(total, 0.0), -1) - jnp.sum(best, -1), 0.0)
    rest = sum(rest[1:], rest[0]) + left
    log_rest = jnp.where(
        rest > 0.0, jnp.log(jnp.where(rest > 0.0, rest, 1.0)), -jnp.inf
    )
    return losses.TeacherOutputs(
        indices=jnp.take_along_axis(distinct, at, axis=-1),
        logits=jnp.log(best),
        log_normalizers={1.0: jnp.zeros(best.shape[:-1], jnp.float32)},
        log_rests={1.0: log_rest},
    )


def surest(members: Sequence[losses.TeacherOutputs]) -> losses.TeacherOutputs:
    """Return at each token the entries of the member whose best is most probable.

    Of equal ones, the first.
    """
    chosen = members[0]
    for other in members[1:]:
        more = _confidence(other) > _confidence(chosen)

        def pick(a: Array, b: Array, more: Array = more) -> Array:
            return jnp.where(
                more.reshape(more.shape + (1,) * (a.ndim - more.ndim)), a, b
            )

        chosen = jax.tree.map(pick, other, chosen)
    return chosen


def _confidence(outputs: losses.TeacherOutputs) -> Float[Array, "*b"]:
    """Return `max_v log p_v`, nats."""
    assert outputs.logits is not None
    return jnp.max(outputs.logits, axis=-1) - outputs.log_normalizer(1.0)


def _merged(ids: Array, mass: Array, most: int) -> tuple[Array, Array]:
    """Return ids in order and the mass of each at its first place, -1 at the others.

    Args:
      ids: `[*b n]`, none more than `most` times.
      mass: of each.
      most: members.
    """
    ids, mass = jax.lax.sort((ids, mass), dimension=-1, num_keys=1)
    after = [(0, 0)] * (ids.ndim - 1) + [(0, most)]
    later_ids, later = jnp.pad(ids, after, constant_values=-1), jnp.pad(mass, after)
    count, total = ids.shape[-1], mass
    for step in range(1, most):
        same = later_ids[..., step : step + count] == ids
        total = total + jnp.where(same, later[..., step : step + count], 0.0)
    before = [(0, 0)] * (ids.ndim - 1) + [(1, 0)]
    first = jnp.pad(ids, before, constant_values=-1)[..., :count] != ids
    return ids, jnp.where(first, total, -1.0)


def _prefix(number: int) -> str:
    return f"{PREFIX}{number}/"
