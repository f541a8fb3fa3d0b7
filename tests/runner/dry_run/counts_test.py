"""Before a run: the tokens that each term counts in its first batch."""

import types
from typing import Any

import jax.numpy as jnp

import losses
from losses import LossTerm
from losses.core.masks import TaughtMask
from runner.data.text.planned import PlannedTokens
from runner.dry_run import counts
from tests.runner.data.own_rows import own

CE = losses.CrossEntropy()


def setup(dataset, terms=()) -> Any:
    objective = types.SimpleNamespace(counted=terms)
    return types.SimpleNamespace(
        dataset=dataset,
        rows=dataset,
        batch_size=12,
        seed=0,
        step=types.SimpleNamespace(objective=objective),
    )


def test_counts_stand_beside_what_makes_them_none():
    dataset = own(mask=False)
    dataset.arrays["positions"] = jnp.tile(jnp.arange(4), (12, 1))
    terms = [
        LossTerm(name="ce", loss=CE),
        LossTerm(name="all", loss=CE, mask=losses.token_mask),
        LossTerm(name="none", loss=CE, mask=lambda batch: batch["targets"] > 99),
        LossTerm(name="late", loss=CE, token_weight=losses.Position(first=3)),
        LossTerm(name="answers", loss=CE, token_weight=losses.Span(begin=5, end=6)),
        LossTerm(name="teacher", loss=CE, token_weight=losses.TeacherEntropy()),
    ]
    assert list(counts.table(setup(dataset, terms))) == [
        "tokens that the terms count in the first batch",
        "  ce       47",
        "  all      48",
        "  none      0  none: it would learn nothing from this batch",
        "  late     47  12 with a token weight other than 0",
        "  answers  47  none with a token weight other than 0: Span found no 5",
        "  teacher  47",
    ]


def test_a_term_counts_what_its_teacher_has_scored():
    plain, scored = own(mask=False), own(mask=False)
    scored.arrays["teacher/known"] = jnp.zeros((12, 4), bool).at[:, 0].set(True)
    terms = [
        LossTerm(name="kl", loss=CE, mask=TaughtMask(losses.target_mask)),
        LossTerm(name="ce", loss=CE),
    ]
    joined = setup(plain, terms)
    joined.rows = scored
    _, kl, ce = counts.table(joined)
    assert (kl.split(), ce.split()) == (["kl", "12"], ["ce", "47"])


def test_planned_data_has_no_counts():
    dataset = PlannedTokens(vocab_size=3, sequence_length=4).load()
    (line,) = counts.table(setup(dataset))
    assert line.endswith("are not known: the data is planned")
