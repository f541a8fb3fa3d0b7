"""Adapters as peft's files: its own come back bit for bit, a run's as they were."""

import functools
import json
from pathlib import Path

import fiddle as fdl
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import models
from models import pretrained
from models.adapters import low_rank
from models.pretrained import peft_adapter, writing
from models.pretrained.writing import peft_folder
from runner import starts
from runner.checkpoint import tree_paths
from runner.errors import UserError
from runner.export.job import Export
from runner.weights.run import RunWeights
from tests.models.pretrained.tables import FIXTURES
from tests.runner.starts.contexts import context
from tests.runner.starts.peft import ADAPTERS, Words, student, take_any_vocabulary
from tests.runner.teachers import examples

SAVED = Path(__file__).parents[3] / "tests" / "compatibility" / "saved_4c223cb"
LORA = fdl.Partial(models.LoRA, model=examples.TEACHER, rank=2, targets="*/mlp/*")


def test_an_adapter_of_peft_is_written_as_it_was(tmp_path, monkeypatch):
    take_any_vocabulary(monkeypatch)
    case = ADAPTERS / "some_kernels"
    targets = ["*/attention/query", "*/attention/output", "*/mlp/down"]
    lora = fdl.Partial(
        models.LoRA, model=student("smollm2"), rank=4, alpha=6.0, targets=targets
    )
    base = starts.Published(path=str(FIXTURES / "smollm2"))
    weights = starts.Adapter(path=str(case), start=base).weights(context(lora, Words()))
    adapters = {p: x.read() for p, x in weights.tensors.items() if low_rank.is_of(p)}
    choice = writing.for_folder(pretrained.open_model(FIXTURES / "smollm2").model)
    peft_folder.write(
        tmp_path,
        peft_folder.tensors(choice, adapters),
        dtype="float32",
        rank=4,
        alpha=6.0,
        base="smollm2",
        num_layers=2,
    )
    name = "adapter_model.safetensors"
    theirs, ours = load_file(case / name), load_file(tmp_path / name)
    assert theirs.keys() == ours.keys()
    for tensor, x in theirs.items():
        np.testing.assert_array_equal(ours[tensor], x)
    theirs, ours = (
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (case, tmp_path)
    )
    ours["target_modules"], theirs["target_modules"] = (
        sorted(x["target_modules"]) for x in (ours, theirs)
    )
    assert ours == {entry: theirs[entry] for entry in ours}


@pytest.mark.parametrize(
    ("family", "kernel"),
    [("mixtral", "up"), ("mixtral", "router"), ("gpt_oss", "down")],
)
def test_kernels_that_are_no_linear_layers_there_are_named(family: str, kernel: str):
    choice = writing.for_folder(pretrained.open_model(FIXTURES / family).model)
    adapters = {f"blocks/0/mlp/adapters/{kernel}/a": np.zeros((4, 16, 2))}
    with pytest.raises(ValueError, match=f"no adapter for blocks/0/mlp/{kernel}:"):
        peft_folder.tensors(choice, adapters)


def test_layers_that_have_none_are_left_out_of_the_targets(tmp_path):
    choice = writing.for_folder(functools.partial(models.Transformer, vocab_size=8))
    adapters = {
        f"blocks/{layer}/attention/adapters/{name}/{x}": np.zeros(shape)
        for layer, name in ((0, "query"), (1, "query"), (1, "key"))
        for x, shape in (("a", (4, 2)), ("b", (2, 2, 2)))
    }
    tensors = peft_folder.tensors(choice, adapters)
    fields = {"dtype": "float32", "rank": 2, "alpha": 2.0, "base": ""}
    peft_folder.write(tmp_path, tensors, **fields, num_layers=2)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == [
        f"model.layers.{x}"
        for x in ("0.self_attn.q_proj", "1.self_attn.q_proj", "1.self_attn.k_proj")
    ]


@pytest.mark.slow
def test_a_run_gives_its_adapters_and_its_model_with_them(tmp_path):
    corpus = examples.source(tmp_path / "text")
    dataset = fdl.build(corpus).load()

    def change(path, x):
        draw = np.random.default_rng(len(jax.tree_util.keystr(path)))
        return x + draw.normal(size=x.shape).astype(x.dtype)

    run = examples.write_run(tmp_path / "run", dataset, student=LORA, change=change)
    (run / "config.txt").write_text("<root>: runner.Experiment\n")
    weights = RunWeights(str(run))
    message = Export(workdir=str(run), to=str(tmp_path / "a"), format="peft").write()
    assert "adapters of rank 2 for llama, step 1, float32" in message
    stored = {p: x.read() for p, x in weights.tensors().items()}
    adapter = peft_adapter.read(tmp_path / "a")
    Export(workdir=str(run), to=str(tmp_path / "whole")).write()
    whole = tree_paths.by_path(pretrained.open_model(tmp_path / "whole").arrays())
    for path, x in whole.items():
        expected = np.float64(stored[path])
        if path in adapter.pairs:
            pair = adapter.pairs[path]
            assert pair.scale == 8.0  # 16 / 2
            a, b = (np.asarray(x, np.float64) for x in (pair.a(), pair.b()))
            expected = expected + 8.0 * (a.T @ b.T)
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)
    assert len(adapter.pairs) == 6


def test_a_run_without_adapters_has_none_to_write(tmp_path):
    with pytest.raises(UserError, match="the student has no adapters"):
        Export(
            workdir=str(SAVED / "student"), to=str(tmp_path / "a"), format="peft"
        ).write()
    assert not (tmp_path / "a").exists()
