"""Evaluations of data that no run of the fast tests has, traced in blocks."""

import pydoc_data.topics

import fiddle as fdl
import jax
import pytest

from runner import data, runtime
from runner.experiment import Experiment
from runner.graph import build, overrides
from runner.graph.overrides import Set
from tests.configs.world import World, read
from tests.heads import in_blocks
from tests.runner.data.images import idx_files


def pairs(folder):
    world = World(folder)
    world.text.write_text(pydoc_data.topics.topics["assignment"])
    return world.tiny(read("dpo"))


def images(folder):
    cfg, classes = read("vision_digits"), tuple("0123456789")
    files = fdl.Config(data.IdxFolder, path=str(folder), classes=classes)
    for prefix in ("train", "t10k"):
        idx_files.write(folder, count=16, prefix=prefix, classes=10)
    cfg.train_data = fdl.Config(data.IdxImages, folder=files, split="train")
    held_out = fdl.Config(data.IdxImages, folder=files, split="held_out")
    cfg.evaluations[0].data = held_out
    return cfg


def series(folder):
    del folder
    sizes = [("dim", "8"), ("num_heads", "2"), ("num_layers", "1")]
    sizes = [Set(f"student.model.{name}", size) for name, size in sizes]
    return overrides.apply(read("series/imputation", "contrast"), sizes)


# dear: prepares and traces a whole evaluation
@pytest.mark.parametrize(
    ("config", "measured"),
    [
        (pairs, {"terms/dpo", "metrics/pair_accuracy", "agreement"}),
        (images, {"terms/ce", "accuracy"}),
        (series, {"terms/align", "metrics/value_distance"}),
    ],
)
def test_an_evaluation_of_other_data_is_traced(config, measured, tmp_path):
    cfg = config(tmp_path)
    cfg.batch_size = cfg.evaluations[0].batch_size = 16
    experiment = build.job(cfg)
    assert isinstance(experiment, Experiment)
    settings = runtime.Runtime(
        mesh=runtime.Mesh(data=jax.device_count()),
        head=in_blocks(7, 300, planes=2),
        input=runtime.Input(cache=str(tmp_path / "cache")),
    )
    setup = experiment.prepare(settings)
    (evaluator,) = setup.evaluators.values()
    assert measured <= set(evaluator.names(setup.step.state))
