"""Columns of rows that a term reads, and held-out rows that have none of them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from losses import LossTerm
from runner.data.dataset import Dataset


def missing(terms: Sequence[LossTerm], dataset: Dataset) -> Mapping[str, list[str]]:
    """Return, by term, the columns (`data.Columns`) that it reads and rows lack.

    Token weights are no part of an evaluation.
    """
    reads = {term.name: sorted(set(_read(term.loss, term.mask))) for term in terms}
    if not any(reads.values()):
        return {}
    there = dataset.rows(np.arange(1)).keys()
    lacking = {name: [x for x in xs if x not in there] for name, xs in reads.items()}
    return {name: columns for name, columns in lacking.items() if columns}


def _read(*nodes: Any) -> Iterator[str]:
    """Yield the fields `column` of nodes and of those within them."""
    for node in nodes:
        if isinstance(getattr(node, "column", None), str):
            yield node.column
        if dataclasses.is_dataclass(node):
            yield from _read(*(getattr(node, x.name) for x in dataclasses.fields(node)))
        elif hasattr(node, "loss"):  # a module around another loss
            yield from _read(node.loss)
