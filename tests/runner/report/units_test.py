"""Units of terms, from what a run's `config.txt` names."""

import sys
from types import SimpleNamespace

import pytest

from runner.report import units


def run_of(**config):
    return SimpleNamespace(
        unit="token",
        of_term=lambda term, field: config.get(field.replace(".", "_"), ""),
    )


@pytest.mark.parametrize(
    ("config", "unit"),
    [
        ({"loss": "losses.ForwardKL"}, "nats per token"),
        ({"loss": "losses.ForwardKl"}, "nats per token"),
        ({"loss": "losses.LogitMSE"}, "nats² per token"),
        ({"loss": "partial(losses.ForwardKL)"}, "nats per token"),
        ({"loss": "losses.NoSuchLoss"}, "average per token"),
        ({"loss": "no_such_package.Loss"}, "average per token"),
        ({"loss": "os.path.join"}, "average per token"),
        ({"loss": ""}, "average per token"),
    ],
)
def test_a_term_has_the_unit_of_its_loss(config, unit):
    assert units.of_term(run_of(**config), "kd") == unit


def test_the_file_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "of_a_stranger.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert units.of_term(run_of(loss="of_a_stranger.Loss"), "kd") == "average per token"
    assert "of_a_stranger" not in sys.modules
