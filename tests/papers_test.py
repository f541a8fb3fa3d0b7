"""What docs/papers.md puts into a graph is there."""

import re
from pathlib import Path

import losses
import runner
import runner.data

PAGE = (Path(__file__).parents[1] / "docs" / "papers.md").read_text()
HOMES = {"losses": losses, "runner": runner, "runner.data": runner.data}


def test_every_name_of_the_page_is_public():
    names = re.findall(r"`(?:\w+=)?((?:\w+\.)+)(\w+)", PAGE)
    assert len(names) > 25
    for home, name in names:
        assert name in HOMES[home.rstrip(".")].__all__, f"{home}{name}"
