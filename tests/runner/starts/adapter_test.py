"""Adapters of peft 0.21.2 as a start: its own logits, whatever the student is."""

import json
import shutil
from pathlib import Path

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import models
from models.pretrained import peft_adapter
from runner import starts
from runner.errors import UserError
from tests.models.pretrained.tables import FIXTURES
from tests.runner.starts.contexts import context
from tests.runner.starts.peft import (
    ADAPTERS,
    BASES,
    Words,
    student,
    take_any_vocabulary,
)


@pytest.fixture(autouse=True)
def any_vocabulary(monkeypatch):
    take_any_vocabulary(monkeypatch)


def start(path, family):
    base = starts.Published(path=str(FIXTURES / family))
    return starts.Adapter(path=str(path), start=base)


def logits(name, node, ctx):
    """Of the state that a start gives, on the tokens of a case."""
    state = node.load(ctx).state()
    params, variables = state.params["student"], state.variables["student"]
    model = ctx.modules.student(*jax.device_get((params, variables)))
    tokens = load_file(ADAPTERS / name / "expected.safetensors")["tokens"][None]
    batch = {
        "tokens": jnp.asarray(tokens),
        "positions": jnp.arange(tokens.shape[1])[None],
        "segment_ids": jnp.ones_like(tokens),
    }
    return jax.jit(lambda m, b: m.head(m.trunk(b).hidden))(model, batch)[0]


@pytest.mark.parametrize(
    "name",
    [
        "tied_head",
        *(pytest.param(x, marks=pytest.mark.slow) for x in BASES if x != "tied_head"),
    ],
)
def test_an_adapter_is_added_to_its_own_matrix_alone(name):
    family = BASES[name]
    ctx = context(student(family, tie_head=False), Words())
    expected = load_file(ADAPTERS / name / "expected.safetensors")["logits"]
    answered = logits(name, start(ADAPTERS / name, family), ctx)
    np.testing.assert_allclose(answered, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["some_kernels", "all_kernels"])
def test_an_adapter_goes_on_as_the_student_s_own(name):
    family = BASES[name]
    # One matrix of `all_kernels` has another rank, and no place in one student.
    targets = ["*/attention/query", "*/attention/output", "*/mlp/down"]
    lora = fdl.Partial(
        models.LoRA, model=student(family), rank=4, alpha=5.0, targets=targets
    )
    node = start(ADAPTERS / name, family)
    if name == "all_kernels":
        with pytest.raises(UserError, match=r"query/a is \[16, 4\] in the student"):
            node.load(context(lora, Words()))
        return
    expected = load_file(ADAPTERS / name / "expected.safetensors")["logits"]
    answered = logits(name, node, context(lora, Words()))
    np.testing.assert_allclose(answered, expected, atol=1e-4)


def test_a_tied_student_has_no_place_for_a_head_of_its_own():
    with pytest.raises(UserError, match=r"changes the output .*tie_head=False$"):
        start(ADAPTERS / "tied_head", "smollm2").load(
            context(student("smollm2"), Words())
        )


def test_an_adapter_of_another_model_is_refused(tmp_path):
    ctx = context(student("smollm2", tie_head=False), Words())
    copy = Path(shutil.copytree(ADAPTERS / "tied_embedding", tmp_path / "a"))
    tensors = load_file(copy / "adapter_model.safetensors")
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    save_file({**tensors, name: tensors[name] + 1}, copy / "adapter_model.safetensors")
    with pytest.raises(UserError, match="a model with another embedding than"):
        start(copy, "smollm2").load(ctx)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"peft_type": "IA3"}, r"peft_type 'IA3' .*one of \['LORA'\]"),
        ({"use_dora": True}, "use_dora True is not supported"),
        ({"bias": "all"}, "bias 'all' is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' is not supported"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"of_tomorrow": 1}, "of_tomorrow 1 is not supported: it may change"),
        ({"lora_alpha": -1}, "lora_alpha must be positive, got -1"),
    ],
)
def test_what_an_adapter_may_not_be_is_named(tmp_path, entries, words):
    folder = Path(shutil.copytree(ADAPTERS / "tied_head", tmp_path / "a"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | entries))
    with pytest.raises(UserError, match=f"^path: .*adapter_config.json: {words}"):
        start(folder, "smollm2").check()


def test_tensors_without_a_place_are_named(tmp_path):
    folder = Path(shutil.copytree(ADAPTERS / "tied_head", tmp_path / "a"))
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for name, words in {
        "base_model.model.score.lora_A.weight": "no place for the tensor",
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": "has no",
    }.items():
        save_file({**tensors, name: np.ones((4, 4), np.float32)}, file)
        with pytest.raises(ValueError, match=words):
            peft_adapter.read(folder)
