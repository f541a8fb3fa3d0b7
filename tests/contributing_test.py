"""What CONTRIBUTING.md shows of a loss outside the tree is true."""

import json
import pydoc_data.topics
import re
from pathlib import Path

import pytest

import losses
from runner.graph import read
from tests.configs.world import World

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_loss_outside_the_tree_is_named_in_a_config_and_trains(tmp_path, monkeypatch):
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## ")
    (text,) = [part for part in section if part.startswith("Add a loss")]
    loss, config = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "focal.py").write_text(loss)
    (tmp_path / "my_config.py").write_text(config)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not hasattr(losses, "Focal")

    world = World(tmp_path)
    world.text.write_text(pydoc_data.topics.topics["assignment"])
    cfg, _ = read.read(str(tmp_path / "my_config.py"))
    # Quick to compile; and the schedule begins at 0, from which nothing is learned.
    cfg.losses, cfg.evaluations = cfg.losses[:1], ()
    del cfg.student.mlp
    cfg.optimizer.learning_rate = 1e-2
    opened = world.run(cfg, "run")
    rows = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    found = {row["step"]: row for row in rows if "learning/focal" in row}
    assert set(found) == {1, 2}
    assert found[2]["learning/focal"] < found[1]["learning/focal"] < 10.0
