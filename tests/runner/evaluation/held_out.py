"""A tiny held-out text, and logits of its targets in float64."""

import functools

import jax
import numpy as np
import pytest

from runner import data

BATCH = 8
TEXT = "A loss answers with one value per token, and divides by nothing at all. " * 9


def even(batch):
    """Count the targets whose id is even."""
    return batch["mask"] & (batch["targets"] % 2 == 0)


def source(folder):
    """Two documents, packed to rows of 24; the tokenizer is trained on them."""
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text(TEXT[::-1])
    documents = data.TextFiles(files=[str(folder / "*.txt")])
    tokenizer = data.ByteBPE(documents=documents, vocab_size=300)
    return data.TokenizedText(
        documents=documents, tokenizer=tokenizer, sequence_length=24
    )


def all_rows(dataset):
    rows = [dataset[i] for i in range(len(dataset))]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@functools.cache
def _logits(modules):
    @jax.jit
    def logits(arrays, batch):
        model = modules.student(arrays["params"], arrays["variables"])
        return model.head(model.trunk(batch).hidden)

    return logits


def of_targets(modules, arrays, batch):
    """Logits at the targets `[n V]`, float64, and the targets `[n]`."""
    logits = np.asarray(_logits(modules)(arrays, batch), np.float64)
    mask = batch["mask"].reshape(-1)
    return logits.reshape(-1, 300)[mask], batch["targets"].reshape(-1)[mask]


def log_normalizer(logits):
    return np.log(np.sum(np.exp(logits), -1))


def assert_equal(measured, expected):
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
