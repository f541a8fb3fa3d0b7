"""What CONTRIBUTING.md shows of a loss and a hook outside the tree is true."""

import json
import pydoc_data.topics
import re
from pathlib import Path

import pytest

import losses
from runner.graph import read
from tests.configs.world import World

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Write the two blocks of a section, train by the second; metrics by step."""

    def run(title, module):
        pages = (ROOT / "CONTRIBUTING.md").read_text().split("\n## ")
        (text,) = [part for part in pages if part.startswith(title)]
        code, config = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        (tmp_path / f"{module}.py").write_text(code)
        (tmp_path / "my_config.py").write_text(config)
        monkeypatch.syspath_prepend(str(ROOT))
        monkeypatch.syspath_prepend(str(tmp_path))

        world = World(tmp_path)
        world.text.write_text(pydoc_data.topics.topics["assignment"])
        cfg, _ = read.read(str(tmp_path / "my_config.py"))
        # Quick to compile; and the schedule begins at 0, from which nothing is learned.
        cfg.losses, cfg.evaluations = cfg.losses[:1], ()
        del cfg.student.mlp
        cfg.optimizer.learning_rate = 1e-2
        metrics = world.run(cfg, "run").metrics.read_text().splitlines()
        by_step = {}
        for row in map(json.loads, metrics):
            by_step[row["step"]] = by_step.get(row["step"], {}) | row
        return by_step

    return run


@pytest.mark.slow
def test_a_loss_outside_the_tree_is_named_in_a_config_and_trains(rows):
    assert not hasattr(losses, "Focal")
    by_step = rows("Add a loss", "focal")
    values = {n: row["learning/focal"] for n, row in by_step.items() if n}
    assert set(values) == {1, 2}
    assert values[2] < values[1] < 10.0


@pytest.mark.slow
def test_a_hook_outside_the_tree_is_named_in_a_config_and_logs(rows):
    by_step = rows("Add a hook", "norms")
    assert [n for n, row in by_step.items() if "norm/embedding" in row] == [1, 2]
    assert by_step[1]["norm/embedding"] != by_step[2]["norm/embedding"]
