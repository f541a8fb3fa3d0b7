"""Terms whose columns held-out rows do not have."""

from types import SimpleNamespace

import losses
from losses import LossTerm
from runner.evaluation import columns


def test_the_columns_of_masks_and_inner_losses_are_told_from_those_there():
    rows = SimpleNamespace(rows=lambda numbers: {"targets": numbers, "bag": numbers})
    bags = losses.BagLoss(column="bag", num_bags=2)
    weight = losses.ColumnWeight(column="trust")
    answer = losses.PolicyGradient(reward=losses.SaysAnswer(column="answer"))
    terms = [
        LossTerm(name="bags", loss=bags, token_weight=weight),
        LossTerm(name="ce", loss=losses.CrossEntropy()),
        LossTerm(
            name="forget",
            loss=losses.CrossEntropy(),
            mask=losses.ColumnMask(column="flag", mask=losses.own_mask),
        ),
        LossTerm(name="pg", loss=answer),
    ]
    assert columns.missing(terms, rows) == {"forget": ["flag"], "pg": ["answer"]}
    assert columns.missing(terms[1:2], None) == {}
