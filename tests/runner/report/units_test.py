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
        ({"loss": "losses.DPO", "mask": "losses.pair_mask"}, "nats per pair"),
        ({"loss": "losses.DPO", "mask": "None"}, "nats per pair"),
        ({"loss": "losses.DPO", "mask": "losses.target_mask"}, "nats per token"),
        ({"loss": "losses.KTO"}, "average per sequence"),
        ({"loss": "losses.CrossEntropy", "mask": "losses.pair_mask"}, "nats per pair"),
        ({"loss": "losses.InfoNCE"}, "nats of a batch"),
        ({"loss": "losses.NoSuchLoss"}, "average per token"),
        ({"loss": "no_such_package.Loss"}, "average per token"),
        ({"loss": "os.path.join"}, "average per token"),
        ({"loss": ""}, "average per token"),
    ],
)
def test_a_term_has_the_unit_of_its_loss(config, unit):
    assert units.of_term(run_of(**config), "kd") == unit


def test_a_metric_of_ones_own_has_the_unit_of_its_class_or_name():
    place = "evaluations.held_out.metrics"
    config = {
        f"{place}[0]": "losses.PairAccuracy",
        f"{place}[1]": "losses.CrossEntropy",
        f"{place}[1].name": "'ce_again'",
    }
    run = SimpleNamespace(unit="token", config=config)
    units_of = {
        metric: units.of_metric(run, "held_out", metric)
        for metric in ("pair_accuracy", "ce_again", "unknown")
    }
    assert units_of == {
        "pair_accuracy": "average per pair",
        "ce_again": "nats per token",
        "unknown": "average per token",
    }
    assert units.of_metric(run, "other", "ce_again") == "average per token"


def test_the_total_is_per_token_where_all_its_terms_are():
    def total(*losses):
        run = run_of(**{name.lower(): f"losses.{name}" for name in losses})
        run.of_term = lambda term, field: f"losses.{term}" if field == "loss" else ""
        run.terms = losses
        return units.of_total(run)

    assert total("CrossEntropy", "ZLoss") == total() == "per token"
    assert total("DPO") == "per pair"
    assert total("CrossEntropy", "DPO") == "each an average of its own"


def test_the_file_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "of_a_stranger.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert units.of_term(run_of(loss="of_a_stranger.Loss"), "kd") == "average per token"
    assert "of_a_stranger" not in sys.modules
