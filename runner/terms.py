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


def whole_sequences(terms: Sequence[LossTerm]) -> bool:
    """Whether some term sees more than a token at a time."""
    return any(term.loss.scope != "token" for term in terms)


def check(
    terms: Sequence[LossTerm],
    offered: frozenset[str],
    *,
    mesh: jax.sharding.Mesh,
    microbatches: int,
) -> None:
    """Refuse what cannot be computed, before anything is compiled.

    Raises:
      UserError: a term needs what the model does not offer, or sees the whole batch
        while the batch is cut.
    """
    for term in terms:
        for path in sorted(term.loss.needs - {"logits"} - offered):
            raise UserError(
                f"losses.{term.name}: {type(term.loss).__name__} needs '{path}', which "
                f"the student does not offer{nearest(path, offered | {'logits'})}"
            )
        parts = microbatches * batch_shards(mesh)
        if term.loss.scope == "batch" and parts > 1:
            raise UserError(
                f"losses.{term.name}: {type(term.loss).__name__} is no sum over "
                "tokens, so the batch cannot be cut for it, and here it is cut in "
                f"{parts} (step.microbatches; data, fsdp and expert of the mesh)"
            )
