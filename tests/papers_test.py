"""docs/papers.md is the list of `tests.papers`, whose expressions build."""

import functools
import re

import optax
import pytest
from flax import nnx

import losses
import models
import runner
import runner.averages
import runner.data
from tests import papers

WRITE = "python -m tests.papers --write"
TEXT = """
2411.08937 2604.00626 1604.08859 2412.08424 2403.01427 2401.11081 2511.08322 2404.08958
2302.02334 2301.12942 2501.13341 2507.02559 2402.06827 2304.07288 2506.12542 2503.06991
2507.06187 2406.08607 2406.15480 2309.14322 2306.12442 2310.08069 2510.04910 2406.15941
2411.09009 2405.14745 2509.25795 2505.10202 2601.04992 2505.13893 2504.20571 2203.05482
2603.13552 1911.02855 2502.06733 2508.02668 2506.21551 2303.13005 1705.08741 2410.13828
2512.22170 2503.02832 2308.09878 2604.11576 2502.00348
"""
IDENTIFIERS = TEXT.split()
"""Papers that the page must have a row for."""

HOMES = {
    "losses": losses,
    "models": models,
    "runner": runner,
    "runner.averages": runner.averages,
    "runner.data": runner.data,
}
NAMES = {
    "functools": functools,
    "losses": losses,
    "models": models,
    "nnx": nnx,
    "optax": optax,
    "runner": runner,
}
EVERY = (*papers.PAPERS, *papers.BEYOND)


def test_the_page_holds_the_tables_that_the_list_makes():
    assert papers.PLACE.read() == papers.draw(), WRITE


def test_every_paper_has_one_row_and_what_was_measured():
    assert sorted(x.identifier for x in papers.PAPERS) == sorted(IDENTIFIERS)
    assert sorted(papers.MEASURED) == sorted(IDENTIFIERS)


def test_what_is_not_all_here_says_what_is_missing():
    assert [x.title for x in EVERY if x.here != "yes" and not x.note] == []


@pytest.mark.parametrize("paper", EVERY, ids=lambda paper: paper.title)
def test_every_expression_builds(paper):
    for text in paper.graph:
        eval(text, NAMES)


def test_every_name_of_the_page_is_public():
    names = re.findall(r"`(?:\w+=)?((?:\w+\.)+)(\w+)", papers.PLACE.page.read_text())
    assert len(names) > 40
    for home, name in names:
        if home.rstrip(".") in HOMES:
            assert name in HOMES[home.rstrip(".")].__all__, f"{home}{name}"
