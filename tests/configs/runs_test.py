"""Every config made tiny runs for two steps, on all devices there are."""

import json
import pydoc_data.topics
from pathlib import Path

import fiddle as fdl
import gin
import numpy as np
import pytest
from fiddle import selectors

from runner import bindings, data, workdir
from runner.flags import Flag
from runner.graph import base, build, overrides
from runner.graph.overrides import Set

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "configs").glob("*.py"))
VOCABULARY = 300


def tiny(path, text):
    """The config's own losses, model and optimiser, over little and on one file."""
    cfg = overrides.apply(
        base.read(str(path))[0],
        [
            Set("student.dim", "32"),
            Set("student.num_layers", "1"),
            Set("student.num_heads", "2"),
            Set("student.vocab_size", f"{VOCABULARY}"),
            Set("num_steps", "2"),
            Set("batch_size", "8"),
        ],
    )
    documents = fdl.Config(data.TextFiles, files=(str(text),))
    selectors.select(cfg, data.PythonLibrary).replace(documents)
    selectors.select(cfg, data.ByteBpe).set(vocab_size=VOCABULARY)
    selectors.select(cfg, data.TokenizedText).set(sequence_length=16)
    for evaluation in cfg.evaluations:
        evaluation.batch_size = 8
    return cfg


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs_two_steps(path, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(pydoc_data.topics.topics["assignment"])
    bindings.apply(
        [
            Flag("gin.loop.log_every", "1"),
            Flag("gin.loop.evaluate_batches", "1"),
            Flag("gin.input.cache", str(tmp_path / "cache")),
        ]
    )
    cfg = tiny(path, text)
    try:
        with workdir.open(tmp_path / "run", cfg, ["runner"]) as opened:
            build.job(cfg).run(opened)
    finally:
        gin.clear_config()
    rows = [json.loads(line) for line in opened.metrics.read_text().splitlines()]
    for term in cfg.losses:
        name = f"learning/{term.name}"
        values = [row[name] for row in rows if name in row]
        assert len(values) == 2 and np.isfinite(values).all()
    assert any("held_out/loss" in row for row in rows)
