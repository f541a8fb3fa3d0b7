"""Series: terms that read classes, which they have none of, and numbers to measure."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

import losses
from losses import FullOutputs, LossTerm
from losses.core.term_values import evaluate
from runner.data.dataset import Dataset
from runner.data.labels import Channels
from runner.errors import UserError

_ROWS_AT_A_TIME = 1024


def check_hidden(dataset: Dataset) -> None:
    """Refuse series to be measured of which no number is hidden.

    Raises:
      UserError: With what hides them.
    """
    if not isinstance(dataset.vocabulary, Channels):
        return
    for start in range(0, len(dataset), _ROWS_AT_A_TIME):
        numbers = np.arange(start, min(start + _ROWS_AT_A_TIME, len(dataset)))
        if dataset.rows(numbers)["hidden"].any():
            return
    raise UserError(
        "no number is hidden; wanted: data=runner.data.HiddenNumbers(data=..., "
        "share=...)"
    )


def check_terms(terms: Sequence[LossTerm], dataset: Dataset) -> None:
    """Refuse terms that read the targets of series, which are no classes.

    Those of logits alone are looked at, without parameters of their own.

    Raises:
      UserError: Naming the term.
    """
    labels = dataset.vocabulary
    if not isinstance(labels, Channels):
        return
    batch = dataset.rows(np.arange(1))
    for term in terms:
        if _reads_targets(term, batch, labels.size):
            raise UserError(
                f"losses.{term.name}: {type(term.loss).__name__} reads targets as "
                f"classes, and the data has {labels.summary}; wanted: "
                "losses.ValueDistance(...)"
            )


def _reads_targets(term: LossTerm, rows: dict[str, np.ndarray], size: int) -> bool:
    """Return true if the values of a term of logits depend on the targets."""
    of_logits = all(path.split("/")[-1] == "logits" for path in term.loss.needs)
    if isinstance(term.loss, nnx.Module) or not of_logits:
        return False
    batch = {name: jnp.asarray(x) for name, x in rows.items()}
    logits = jnp.zeros((*batch["targets"].shape, size))

    def values(targets: Int[Array, "b t"]) -> Float[Array, ""]:
        outputs = FullOutputs(
            batch={**batch, "targets": targets},
            logits=logits,
            intermediates=dict.fromkeys(term.loss.needs, logits),
            teacher=losses.TeacherOutputs(logits=logits),
            step=jnp.int32(0),
            key=jax.random.key(0),
        )
        return evaluate([term], outputs)[term.name].total

    try:
        traced = jax.make_jaxpr(values)(batch["targets"])
    except losses.IncompatibleLoss:  # which the trace of the step tells
        return False
    # Where the shape alone is read, nothing has them as an argument.
    targets = traced.jaxpr.invars[0]
    return any(targets is x for line in traced.eqns for x in line.invars)
