"""Several teachers at once: each term reads the one that it names."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

import losses
from models.base import Batch
from runner.teachers.base import Teacher, TeacherContext, TeacherTrunk, digest
from runner.teachers.members import LoadedSeveral, Several

Tree = Any
_LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedTeachers(Several):
    """Models side by side, on the same tokens; nothing is made of them.

    A term reads one of them by `losses.OfTeacher(loss=..., teacher="old")`, logits and
    intermediates; one that names none reads the logits of the first. Those that no term
    reads do not run. Each makes whole rows of logits, a block of tokens at a time.

    Attributes:
      teachers: by name, an identifier each.

    Raises:
      ValueError: there is none, or a name is no identifier.
      UserError: from `load`, a teacher is no model.
    """

    teachers: Mapping[str, Teacher]

    def __post_init__(self):
        if not self.teachers:
            raise ValueError("teachers must hold at least one teacher")
        for name in self.teachers:
            if not name.isidentifier():
                raise ValueError(f"teachers must have identifiers, got {name!r}")

    def members(self) -> Mapping[str, Teacher]:
        return self.teachers

    def identity(self) -> str:
        parts = {name: x.identity() for name, x in self.teachers.items()}
        return digest(f"named {parts}")

    def load(self, context: TeacherContext) -> "LoadedNamed":
        return LoadedNamed({name: x.load(context) for name, x in self.teachers.items()})


class LoadedNamed(LoadedSeveral):
    """Members that are read one by one."""

    def describe(self) -> Mapping[str, Any]:
        members = {name: dict(x.describe()) for name, x in self.members.items()}
        return {"kind": "named", **members}

    def offers(self) -> frozenset[str]:
        return frozenset(
            f"{name}/{path}"
            for name, member in self.members.items()
            for path in (_LOGITS, *member.offers())
        )

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        first = next(iter(self.members))
        paths: dict[str, frozenset[str]] = {}
        for name in self.members:
            own = {x.removeprefix(f"{name}/") for x in capture if _of(x) == name}
            paths[name] = frozenset(
                own | ({_LOGITS} if logits and name == first else set())
            )
        trunks = {
            name: member.trunk(
                frozen[name],
                ema.get(name, {}),
                batch,
                capture=paths[name] - {_LOGITS},
                logits=_LOGITS in paths[name],
            )
            for name, member in self.members.items()
            if paths[name]
        }

        def outputs(
            head_params: Tree, tokens: Tree, batch: Batch
        ) -> losses.TeacherOutputs:
            of_first: jax.Array | None = None
            intermediates = {}
            for name, trunk in trunks.items():
                own = trunk.outputs(head_params[name], tokens[name], batch)
                for path, x in own.intermediates.items():
                    intermediates[f"{name}/{path}"] = x
                if own.logits is not None:
                    intermediates[f"{name}/{_LOGITS}"] = own.logits
                    of_first = own.logits if name == first else of_first
            return losses.TeacherOutputs(
                logits=of_first if logits else None,
                intermediates={p: x for p, x in intermediates.items() if p in capture},
            )

        return TeacherTrunk(
            tokens={name: trunk.tokens for name, trunk in trunks.items()},
            head_params={name: trunk.head_params for name, trunk in trunks.items()},
            outputs=outputs,
            full_logits=any(trunk.full_logits for trunk in trunks.values()),
        )


def _of(path: str) -> str:
    return path.partition("/")[0]
