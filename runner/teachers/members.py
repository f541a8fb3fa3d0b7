"""Several teachers as one: nodes, and models whose logits become one teacher's."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

import losses
from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Join
from runner.errors import UserError, prefixed
from runner.head.vocab_partition import VocabPartition
from runner.teachers.base import LoadedTeacher, LogitTiles, Teacher, TeacherTrunk

Tree = Any
Tile = Callable[[], jax.Array]
_OF_ROWS = "of rows"


class Several(Teacher):
    """A teacher that is made of others."""

    @abc.abstractmethod
    def members(self) -> Mapping[str, Teacher]:
        """Return the teachers by name, in order."""

    def check(self) -> None:
        for name, member in self.members().items():
            with prefixed(name):
                member.check()

    def check_shapes(self) -> None:
        """Nothing: each member checks its own."""

    def init_state(self, student: Tree) -> Tree:
        states = {name: m.init_state(student) for name, m in self.members().items()}
        return states if jax.tree.leaves(states) else {}

    def update_state(self, ema: Tree, student: Tree, step: jax.Array) -> Tree:
        return {
            name: self.members()[name].update_state(state, student, step)
            for name, state in ema.items()
        }


class LoadedSeveral(LoadedTeacher):
    """The members loaded, with the arrays and the rows of all.

    Raises:
      UserError: a member is no model over whole logits.
    """

    def __init__(self, members: Mapping[str, LoadedTeacher]):
        for name, member in members.items():
            if member.stored is not None:
                raise UserError(
                    f"{name}: it gives records, or best entries as Aligned does; "
                    "combined are records alone (OfflineTeacher), or models alone"
                )
        self.members = members
        self.abstract = {name: member.abstract for name, member in members.items()}
        self.columns = frozenset().union(*(x.columns for x in members.values()))
        self.views = frozenset().union(*(x.views for x in members.values()))
        self.cautions = tuple(
            caution for member in members.values() for caution in member.cautions
        )

    def read(self) -> Tree:
        return {name: member.read() for name, member in self.members.items()}

    def covers(self, dataset: Dataset) -> bool:
        return all(member.covers(dataset) for member in self.members.values())

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        return [
            join for member in self.members.values() for join in member.joins(dataset)
        ]


class LoadedMembers(LoadedSeveral):
    """Members that run side by side; only their logits are offered.

    Attributes:
      entrywise: whether an entry of the result is made of the members' own alone, so
        that it can be made by tiles of the vocabulary.
    """

    entrywise: bool = True

    @abc.abstractmethod
    def combined(self, logits: Mapping[str, jax.Array], of_rows: Tree) -> jax.Array:
        """Return one teacher's logits, `[*b v]`.

        Args:
          logits: of the members, `[*b v]` each.
          of_rows: what `of_rows` gave.
        """

    def beside(self, logits: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Return what losses may read of the combination, `[*b]` each, by path."""
        del logits
        return {}

    def of_rows(self, batch: Batch) -> Tree:
        """Return further arrays `[*b ...]` that `combined` reads."""
        del batch
        return {}

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        trunks = {
            name: member.trunk(
                frozen[name],
                ema.get(name, {}),
                batch,
                capture=capture - self.offers(),
                logits=logits,
            )
            for name, member in self.members.items()
        }

        def outputs(
            head_params: Tree, tokens: Tree, batch: Batch
        ) -> losses.TeacherOutputs:
            if not logits:
                return losses.TeacherOutputs()
            of_members = {}
            for name, trunk in trunks.items():
                own = trunk.outputs(head_params[name], tokens[name], batch).logits
                assert own is not None  # records are refused by `load`
                of_members[name] = own
            return losses.TeacherOutputs(
                logits=self.combined(of_members, tokens[_OF_ROWS]),
                intermediates=self.beside(of_members) if capture else {},
            )

        return TeacherTrunk(
            tokens={
                _OF_ROWS: self.of_rows(batch),
                **{name: trunk.tokens for name, trunk in trunks.items()},
            },
            head_params={name: trunk.head_params for name, trunk in trunks.items()},
            outputs=outputs,
            full_logits=logits,
            tiles=self._tiles(trunks) if self.entrywise else None,
        )

    def _tiles(self, trunks: Mapping[str, TeacherTrunk]) -> LogitTiles | None:
        """Return the combination of the members' tiles, if all have them."""

        def combined(
            of_members: Mapping[str, Tile], head_params: Tree, tokens: Tree
        ) -> jax.Array:
            del head_params
            logits = {name: tile() for name, tile in of_members.items()}
            return self.combined(logits, tokens[_OF_ROWS])

        return joint_tiles(trunks, combined)


def joint_tiles(
    trunks: Mapping[str, TeacherTrunk],
    joint: Callable[[Mapping[str, Tile], Tree, Tree], jax.Array],
) -> LogitTiles | None:
    """Return tiles that are made of those of several teachers, if all have them.

    One member of whole rows would need a row of every other.

    Args:
      trunks: of the members, by name.
      joint: `(tiles, head_params, tokens) -> [*b n]`: from functions that compute the
        tile of each member, and the arrays of all of them by name.
    """
    members = {name: x.tiles for name, x in trunks.items() if x.tiles is not None}
    if len(members) < len(trunks):
        return None

    def logits(
        head_params: Tree,
        tokens: Tree,
        partition: VocabPartition,
        start: Any,
        width: int,
    ) -> jax.Array:
        def tile_of(name: str) -> Tile:
            return lambda: members[name].logits(
                head_params[name], tokens[name], partition, start, width
            )

        return joint({name: tile_of(name) for name in members}, head_params, tokens)

    return LogitTiles(
        entries=min(member.entries for member in members.values()),
        width=min(member.width for member in members.values()),
        outputs=lambda *_: losses.TeacherOutputs(),
        logits=logits,
    )
