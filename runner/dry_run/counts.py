"""Tokens that each term counts in the first batch."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from losses import FullOutputs, LossTerm, Reweighting
from losses.core.batch_weights import BatchValues
from losses.core.masks import token_masks
from models.base import Batch
from runner.data.pipeline import first_rows
from runner.data.text.planned import PlannedRows
from runner.dry_run.memory import aligned
from runner.train.setup import Setup


def table(setup: Setup) -> Iterator[str]:
    """Counts by term, and how many of these have a token weight other than 0."""
    unit = setup.dataset.unit
    if isinstance(setup.dataset, PlannedRows):
        yield f"{unit}s that the terms count are not known: the data is planned"
        return
    rows = first_rows(setup.rows, batch_size=setup.batch_size, seed=setup.seed)
    batch = {name: jnp.asarray(x) for name, x in rows.items()}
    terms = setup.step.objective.counted
    yield f"{unit}s that the terms count in the first batch"
    lines = [
        (f"  {term.name}", f"{count:,}", remark)
        for term in terms
        for count, remark in [_counted(term, batch)]
    ]
    yield from aligned(lines, numbers=(1,))


def _counted(term: LossTerm, batch: Batch) -> tuple[int, str]:
    """Return the tokens of a batch that a term counts, and a remark."""
    mask = np.asarray(token_masks([term], batch)[term.name])
    count = int(np.sum(mask))
    if not count:
        return count, "none: it would learn nothing from this batch"
    weights = _weights(term, batch)
    if weights is None:
        return count, ""
    weighted = int(np.sum(mask & (np.asarray(weights) != 0.0)))
    if weighted:
        return count, f"{weighted:,} with a token weight other than 0"
    explain = getattr(term.token_weight, "explain_zero", None)
    return count, f"none with a token weight other than 0{explain and ': ' + explain()}"


def _weights(term: LossTerm, batch: Batch) -> Any:
    """Return token weights that need nothing but the batch; None for any others."""
    weight = term.token_weight
    if isinstance(weight, Reweighting) and not weight.wants_values:
        masks = token_masks([term], batch)
        values = BatchValues(
            values=None, mask=masks[term.name], batch=batch, step=jnp.int32(0)
        )
        return weight(values, weight.initial())[0]
    if (
        weight is None
        or isinstance(weight, Reweighting)
        or getattr(weight, "needs", {"unknown"})
    ):
        return None
    shape = batch["targets"].shape
    return weight(FullOutputs(batch=batch, logits=jnp.zeros((*shape, 0))))
