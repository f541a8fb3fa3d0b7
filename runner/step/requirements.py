"""Requirements of the loss terms on models, teachers, weights and batches."""

from collections.abc import Iterable, Sequence

import jax
import numpy as np

import losses
from losses import LossTerm, Reweighting
from losses.core import terms
from losses.core.masks import Mask
from losses.core.outputs import read_by_head
from losses.core.term_values import wants_means
from losses.core.terms import Item
from losses.weighting import weights
from models.base import Model
from runner.data.dataset import Dataset
from runner.data.rollouts import Rollouts
from runner.errors import UserError, nearest
from runner.machine.mesh import batch_shards
from runner.state.trainable import TrainModules
from runner.teachers.base import LoadedTeacher

TEACHER = "teacher/"
TRUNK = "trunk"
"""Path of the hidden states that the student's head reads; every model has them."""


def capture(terms: Sequence[LossTerm]) -> frozenset[str]:
    """Return the student's intermediates that any term needs."""
    own = {p for p in _needs(terms) if not p.startswith(TEACHER)} - {"logits"}
    return frozenset(map(read_by_head, own))


def head_paths(terms: Sequence[LossTerm]) -> list[str]:
    """Return the paths of logits that the head gives of intermediates."""
    return sorted(p for p in _needs(terms) if read_by_head(p) != p)


def reads_logits(term: LossTerm) -> bool:
    """Return true if a term reads what the student's head gives of anything."""
    return "logits" in term.needs or bool(head_paths([term]))


def capture_of_teacher(terms: Sequence[LossTerm]) -> frozenset[str]:
    """Return the teacher's intermediates that any term needs, by its own paths."""
    paths = (p.removeprefix(TEACHER) for p in _needs(terms) if p.startswith(TEACHER))
    return frozenset(paths) - {"logits"}


def wants_teacher_logits(terms: Sequence[LossTerm]) -> bool:
    """Return true if any term reads the teacher's distribution."""
    return f"{TEACHER}logits" in _needs(terms)


def compares_with_teacher(
    terms: Sequence[LossTerm], teacher: LoadedTeacher | None
) -> bool:
    """Return true where student and teacher can be compared over all targets.

    That is where terms read the teacher's distribution, and it is known at temperature
    1, of every token.
    """
    if teacher is None or not wants_teacher_logits(terms):
        return False
    if (stored := teacher.stored) is None:
        return True
    known = stored.mode == "full" or 1.0 in stored.temperatures
    return known and not stored.partial


def statistical(terms: Sequence[LossTerm]) -> list[LossTerm]:
    """Return the terms that need means over the global batch before their values."""
    return [
        term
        for term in terms
        if isinstance(term.loss, losses.Loss) and wants_means(term.loss)
    ]


def masks_read(terms: Sequence[LossTerm]) -> list[Mask]:
    """Return the masks of tokens that terms read besides those that they count."""
    masks = {getattr(t.loss, "reads", None): None for t in terms if reads_logits(t)}
    return [mask for mask in masks if mask is not None]


def scopes(terms: Sequence[LossTerm]) -> set[str]:
    """Return the scopes of the terms: token, sequence, batch."""
    return {term.loss.scope for term in terms}


def check_needs(terms: Sequence[LossTerm], offered: frozenset[str]) -> None:
    """Refuse terms that need what the student does not offer.

    Raises:
      UserError: naming the term, the path and the nearest one.
    """
    for term in terms:
        own = {read_by_head(p) for p in term.needs if not p.startswith(TEACHER)}
        _refuse_missing(term, own, offered | {"logits", TRUNK}, "student")


def check_teacher(terms: Sequence[LossTerm], teacher: LoadedTeacher | None) -> None:
    """Refuse terms that need what the teacher does not offer, or has not stored.

    Raises:
      UserError: naming the term, what it needs and what there is.
    """
    for term in terms:
        paths = {p for p in term.needs if p.startswith(TEACHER)}
        if not paths:
            continue
        if teacher is None:
            raise _no_teacher(term)
        offered = {f"{TEACHER}{path}" for path in teacher.offers() | {"logits"}}
        _refuse_missing(term, paths, offered, "teacher")
        if teacher.stored is not None:
            try:
                term.loss.check_records(teacher.stored)
            except ValueError as error:
                raise UserError(f"losses.{term.name}: {error}") from None


def check_masks(terms: Sequence[LossTerm], dataset: Dataset) -> None:
    """Refuse terms with a weight that would count no token of any batch.

    Raises:
      UserError: naming the term and the data that it wants.
    """
    if dataset.rollouts is not None:
        _check_draws(terms, dataset.rollouts)
    if dataset.rollouts is not None or "own" in dataset.columns:
        return
    for term in terms:
        counts_none = term.mask is losses.own_mask
        if counts_none and not (isinstance(term.weight, float) and term.weight == 0):
            raise UserError(
                f"losses.{term.name}: {type(term.loss).__name__} counts the rows that "
                "the student writes, and train_data has none; wanted: "
                "runner.data.OnPolicy(data=...)"
            )


def _check_draws(terms: Sequence[LossTerm], rollouts: Rollouts) -> None:
    """Refuse a policy gradient of other draws than those of the data.

    Raises:
      UserError: naming the field that differs.
    """
    for term in terms:
        if not isinstance(term.loss, losses.PolicyGradient):
            continue
        wanted = {
            "top_k": None,
            "top_p": None,
            "temperature": term.loss.temperature,
            "group": term.loss.group,
        }
        for name, value in wanted.items():
            if getattr(rollouts, name) != value:
                raise UserError(
                    f"losses.{term.name}: PolicyGradient is of rows drawn with "
                    f"{name}={value}, and train_data draws with "
                    f"{name}={getattr(rollouts, name)}"
                )


def _no_teacher(term: LossTerm) -> UserError:
    return UserError(
        f"losses.{term.name}: {type(term.loss).__name__} needs a teacher, and the "
        "experiment has none (teacher=runner.OnlineTeacher(...) or OfflineTeacher(...))"
    )


def _refuse_missing(
    term: LossTerm, needed: Iterable[str], offered: Iterable[str], who: str
) -> None:
    for path in sorted(set(needed) - set(offered)):
        hint = nearest(path, offered)
        if who == "teacher" and set(offered) == {f"{TEACHER}logits"}:
            hint = ": it offers its distribution alone"
        elif _is_of_router(path):
            hint = _NO_ROUTER
        if path.startswith(_SPANS):
            hint = _NO_SPANS
        raise UserError(
            f"losses.{term.name}: {type(term.loss).__name__} needs '{path}', which "
            f"the {who} does not offer{hint}"
        )


_NO_ROUTER = ": its layers are dense, a mixture of experts (mlp=models.MoE) has routers"

_SPANS = f"{TEACHER}spans/"
_NO_SPANS = ": spans are of a live teacher of another tokenizer, runner.Aligned(...)"


def _is_of_router(path: str) -> bool:
    """Return true for the intermediates of `models.MoE`, of a student or teacher."""
    name = path.removeprefix(TEACHER).partition("/")[0]
    return name in ("router_logits", "router_assignments")


def _needs(terms: Sequence[LossTerm]) -> frozenset[str]:
    return frozenset().union(*(term.needs for term in terms))


def check_balances(items: Sequence[Item]) -> None:
    """Refuse weights that follow a term which is not there.

    Raises:
      UserError: naming the weight, the term and the nearest one.
    """
    names = {term.name for term in terms.flat_terms(items)}
    for name, balance in weights.balances(items).items():
        for read in balance.reads:
            if read not in names:
                raise UserError(
                    f"losses.{name}.weight: {type(balance).__name__} follows the term "
                    f"{read!r}, and there is none{nearest(read, names)}"
                )


def check_tables(terms: Sequence[LossTerm], num_rows: int) -> None:
    """Refuse tables of rows that are not as long as the data.

    Raises:
      UserError: naming the term and the number it should have.
    """
    for term in terms:
        weight = term.token_weight
        size = weight.num_rows if isinstance(weight, Reweighting) else None
        if size not in (None, num_rows):
            raise UserError(
                f"losses.{term.name}.token_weight: num_rows={size}, and the data has "
                f"{num_rows} rows"
            )


def check_scope(
    terms: Sequence[LossTerm], *, mesh: jax.sharding.Mesh, microbatches: int
) -> None:
    """Refuse terms that see the whole batch, where the batch is cut.

    Raises:
      UserError: naming the term and the number of parts.
    """
    parts = microbatches * batch_shards(mesh)
    for term in terms:
        if term.loss.scope == "batch" and parts > 1:
            raise UserError(
                f"losses.{term.name}: {type(term.loss).__name__} is no sum over "
                "tokens, so the batch cannot be cut for it, and here it is cut in "
                f"{parts} (step.microbatches; data, fsdp and expert of the mesh)"
            )


_CHECKED_ROWS = 16  # before anything is compiled; every other one when it is read


def check_data(modules: TrainModules, dataset: Dataset) -> None:
    """Refuse data that the student cannot read, or has too few outputs or users for.

    Raises:
      UserError: With the shapes, or both numbers.
    """
    student, labels = modules.abstract_student(), dataset.vocabulary
    check_rows(student, dataset)
    if student.num_outputs < labels.size:
        raise UserError(
            f"student: {student.num_outputs} outputs for {labels.summary}; "
            f"give the student {labels.student_field}"
        )
    users, known = dataset.num_users, getattr(student, "num_users", None)
    if users is not None and known is not None and known < users:
        raise UserError(
            f"student: num_users={known}, the data has {users} users; wanted: "
            f"num_users={users}"
        )


def check_rows(student: Model, dataset: Dataset) -> None:
    """Refuse rows that the student cannot read: the first ones, of columns all.

    Raises:
      UserError: With what it reads.
    """
    rows = dataset.rows(np.arange(min(len(dataset), _CHECKED_ROWS)))
    for name, column in dataset.columns.items():
        if column.by == "row":
            stored = dataset.selection
            rows[name] = column.values if stored is None else column.values[stored]
    try:
        student.check_batch(rows)
    except ValueError as error:
        raise UserError(f"student: {error}") from None
