"""Several teachers, one after another over the steps of a run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import losses
from models.base import Batch
from runner.errors import UserError
from runner.teachers.base import (
    LoadedTeacher,
    LogitTiles,
    Teacher,
    TeacherContext,
    TeacherTrunk,
)
from runner.teachers.members import LoadedSeveral, Several, Tile, joint_tiles
from runner.teachers.offline import LoadedRecords
from runner.teachers.recorded_members import LoadedRecordSet, require_one_form

Tree = Any

_STEP = "step"
_TURN = "turn"
_MOST = 2**31 - 1  # a step is int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduledTeacher(Several):
    """`teachers[i]` alone from `from_steps[i]` finished steps on, until the next.

    Only the one whose turn it is runs, however many there are; all lie on the devices.
    The finished steps are part of the train state beside those of the teachers, so that
    a run that goes on has the same teacher at each step. Models teach with their
    distributions; of records a token counts that all of them know.

    Attributes:
      teachers: at least one: live models of one vocabulary, or records of the same
        rows and of one form (mode, entries, temperatures).
      from_steps: of each teacher, rising from 0.

    Raises:
      ValueError: there are no teachers, or the steps are not such.
    """

    teachers: Sequence[Teacher]
    from_steps: Sequence[int]

    def __post_init__(self):
        if not self.teachers:
            raise ValueError("teachers must hold at least one teacher")
        steps = list(self.from_steps)
        if len(steps) != len(self.teachers) or not _rise_from_zero(steps):
            raise ValueError(
                f"from_steps must be {len(self.teachers)} whole numbers, one a "
                f"teacher, rising from 0; got {steps}{_rising(steps, self.teachers)}"
            )

    def members(self) -> Mapping[str, Teacher]:
        return {f"teachers[{i}]": t for i, t in enumerate(self.teachers)}

    def init_state(self, student: Tree) -> Tree:
        return {**super().init_state(student), _STEP: jnp.zeros((), jnp.int32)}

    def update_state(self, ema: Tree, student: Tree, step: jax.Array) -> Tree:
        of_teachers = {name: x for name, x in ema.items() if name != _STEP}
        return {**super().update_state(of_teachers, student, step), _STEP: step}

    def load(self, context: TeacherContext) -> "LoadedSchedule | LoadedRecordSchedule":
        if context.num_steps is None:
            raise UserError(
                "a ScheduledTeacher follows the steps of a run, and here is none; "
                "wanted: one of its teachers"
            )
        last = self.from_steps[-1]
        if last >= context.num_steps:
            raise UserError(
                f"teacher: from_steps: teachers[{len(self.teachers) - 1}] begins after "
                f"{last} steps, and the run has {context.num_steps}; wanted: at most "
                f"{context.num_steps - 1}"
            )
        loaded = {name: x.load(context) for name, x in self.members().items()}
        records = {n: x for n, x in loaded.items() if isinstance(x, LoadedRecords)}
        if len(records) == len(loaded):
            return LoadedRecordSchedule(records, self.from_steps)
        return LoadedSchedule(loaded, self.from_steps)


class LoadedSchedule(LoadedSeveral):
    """Models, of which one runs at a step; its logits alone are offered.

    Args:
      members: by name, in order.
      from_steps: of each, rising from 0.
    """

    def __init__(self, members: Mapping[str, LoadedTeacher], from_steps: Sequence[int]):
        super().__init__(members)
        self._from_steps = from_steps

    def describe(self) -> Mapping[str, Any]:
        members = {name: dict(x.describe()) for name, x in self.members.items()}
        return {"kind": "schedule", "from_steps": list(self._from_steps), **members}

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        def run(name: str) -> TeacherTrunk:
            return self.members[name].trunk(
                frozen[name], ema.get(name, {}), batch, capture=capture, logits=logits
            )

        # Of these runs only the parameters of the heads are read, and the shapes of the
        # rest: what nothing reads is not compiled.
        trunks = {name: run(name) for name in self.members}
        turn = _turn(ema, self._from_steps)

        # The trunk whose turn it is; zeros stand for the others.
        def tokens_of(name: str) -> Callable[[], Tree]:
            def tokens() -> Tree:
                others = {
                    n: jax.tree.map(jnp.zeros_like, x.tokens)
                    for n, x in trunks.items()
                    if n != name
                }
                return {**others, name: run(name).tokens}

            return tokens

        def outputs(
            head_params: Tree, tokens: Tree, batch: Batch
        ) -> losses.TeacherOutputs:
            if not logits:
                return losses.TeacherOutputs()

            def of(name: str) -> Callable[[], jax.Array]:
                def own() -> jax.Array:
                    outputs = trunks[name].outputs
                    own = outputs(head_params[name], tokens[name], batch).logits
                    assert own is not None  # records are refused by `load`
                    return own

                return own

            branches = [of(name) for name in trunks]
            return losses.TeacherOutputs(
                logits=jax.lax.switch(head_params[_TURN], branches)
            )

        return TeacherTrunk(
            tokens=jax.lax.switch(turn, [tokens_of(name) for name in trunks]),
            head_params={
                _TURN: turn,
                **{name: trunk.head_params for name, trunk in trunks.items()},
            },
            outputs=outputs,
            full_logits=logits,
            tiles=_tiles(trunks),
        )


class LoadedRecordSchedule(LoadedRecordSet):
    """Records of each row, of which one teacher's are read at a step.

    Args:
      members: by name, in order.
      from_steps: of each, rising from 0.

    Raises:
      UserError: the records are of several forms.
    """

    def __init__(self, members: Mapping[str, LoadedRecords], from_steps: Sequence[int]):
        require_one_form(members)
        description = {"kind": "schedule", "from_steps": list(from_steps)}
        super().__init__(members, description)
        self._from_steps = from_steps

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        del frozen, batch, capture, logits  # records lie in the block's batch
        assert self.stored is not None
        return TeacherTrunk(
            tokens={},
            head_params={_TURN: _turn(ema, self._from_steps)},
            outputs=self._outputs,
            full_logits=self.stored.mode == "full",
        )

    def _outputs(
        self, head_params: Tree, tokens: Tree, batch: Batch
    ) -> losses.TeacherOutputs:
        del tokens
        branches = [
            functools.partial(self.of_member, number, batch)
            for number in range(len(self.members))
        ]
        return jax.lax.switch(head_params[_TURN], branches)


def _tiles(trunks: Mapping[str, TeacherTrunk]) -> LogitTiles | None:
    """Return the tiles of the teacher whose turn it is, if all have them."""

    def of_turn(
        tiles: Mapping[str, Tile], head_params: Tree, tokens: Tree
    ) -> jax.Array:
        del tokens
        return jax.lax.switch(head_params[_TURN], list(tiles.values()))

    return joint_tiles(trunks, of_turn)


def _turn(ema: Tree, from_steps: Sequence[int]) -> jax.Array:
    """Return the number of the teacher whose turn it is, int32."""
    later = jnp.asarray(from_steps[1:], jnp.int32)
    return jnp.sum(ema[_STEP] >= later, dtype=jnp.int32)


def _rise_from_zero(steps: Sequence[Any]) -> bool:
    whole = all(type(step) is int and step <= _MOST for step in steps)
    return whole and steps[0] == 0 and sorted(set(steps)) == steps


def _rising(steps: Sequence[Any], teachers: Sequence[Teacher]) -> str:
    """Return the nearest steps that would do, in a message; nothing if none is near."""
    numbers = (x for x in steps if isinstance(x, int | float) and abs(x) < _MOST)
    near = sorted({int(x) for x in numbers})
    near = [0, *near[1:]] if len(near) == len(teachers) else [0, *near]
    fits = len(near) == len(teachers) and _rise_from_zero(near)
    return f"; did you mean {near}?" if fits else ""
