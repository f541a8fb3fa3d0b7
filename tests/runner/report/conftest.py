"""Reports of the same curves, which draw them once."""

import pytest

from runner.report import plot
from tests.runner.report import pages


@pytest.fixture(autouse=True)
def pictures_drawn_once(monkeypatch):
    monkeypatch.setattr(plot, "svg", pages.drawn_once(plot.svg))
