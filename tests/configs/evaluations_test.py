"""Evaluations of data that no run of the fast tests has, traced in blocks."""

import pydoc_data.topics

import jax
import pytest

from runner import runtime
from runner.experiment import Experiment
from runner.graph import build, overrides
from runner.graph.overrides import Set
from tests.configs.world import World, read
from tests.heads import in_blocks

LITTLE = {"series/imputation": {"dim": "8", "num_heads": "2", "num_layers": "1"}}
"""Fields of the student's inner model, by config."""


# dear: prepares and traces a whole evaluation
@pytest.mark.parametrize(
    ("name", "fiddler", "measured"),
    [
        ("dpo", "", {"terms/dpo", "metrics/pair_accuracy", "agreement"}),
        ("papers", "implicit", {"terms/pairs", "metrics/recall_at"}),
        ("series/imputation", "contrast", {"terms/align", "metrics/value_distance"}),
    ],
)
def test_an_evaluation_of_other_data_is_traced(name, fiddler, measured, tmp_path):
    cfg, world = read(name, fiddler), World(tmp_path)
    if name == "dpo":
        world.text.write_text(pydoc_data.topics.topics["assignment"])
        cfg = world.tiny(cfg)
    sizes = [Set(f"student.model.{x}", y) for x, y in LITTLE.get(name, {}).items()]
    cfg = overrides.apply(cfg, sizes)
    cfg.batch_size = cfg.evaluations[0].batch_size = 16
    experiment = build.job(cfg)
    assert isinstance(experiment, Experiment)
    config = runtime.Runtime(
        mesh=runtime.Mesh(data=jax.device_count()),
        head=in_blocks(7, 300, planes=2),
        input=runtime.Input(cache=str(tmp_path / "cache")),
    )
    setup = experiment.prepare(config)
    (evaluator,) = setup.evaluators.values()
    assert measured <= set(evaluator.names(setup.step.state))
