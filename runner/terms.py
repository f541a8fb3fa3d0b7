"""What a list of loss terms asks of the model and of the way a batch is cut."""

from collections.abc import Sequence

import jax

from losses import Loss, LossTerm
from runner.errors import UserError, nearest
from runner.mesh import batch_shards


def capture(terms: Sequence[LossTerm]) -> frozenset[str]:
    """The intermediates that any term needs."""
    needed = frozenset().union(*(term.loss.needs for term in terms))
    return needed - {"logits"}


def statistical(terms: Sequence[LossTerm]) -> list[LossTerm]:
    """The terms that want means over the global batch before their values."""
    plain = Loss.statistics
    return [term for term in terms if type(term.loss).statistics is not plain]


def scopes(terms: Sequence[LossTerm]) -> set[str]:
    """How much the terms see at a time: tokens, sequences, the batch."""
    return {term.loss.scope for term in terms}


def check_needs(terms: Sequence[LossTerm], offered: frozenset[str]) -> None:
    """Refuse terms that need what the model does not offer.

    Raises:
      UserError: naming the term, the path and the nearest one.
    """
    for term in terms:
        for path in sorted(term.loss.needs - {"logits"} - offered):
            raise UserError(
                f"losses.{term.name}: {type(term.loss).__name__} needs '{path}', which "
                f"the student does not offer{nearest(path, offered | {'logits'})}"
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
