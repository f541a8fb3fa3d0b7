"""The same models as `.gguf` files: names and order of rows are llama.cpp's."""

import math
import sys
from pathlib import Path

import gguf
import jax
import numpy as np
import pytest

from models import pretrained
from models.pretrained import families, gguf_families
from models.pretrained.entries import refusals
from models.rope_scaling import PerFrequency
from tests.models.pretrained import inputs
from tests.models.pretrained.tables import (
    FIXTURES,
    GGUF_FAMILIES,
    TOLERANCE,
    UNSAID,
    largest_difference,
)

# Which `gguf_converted_test.py` holds to the folders, whose logits are tested.
SLOW = {"deepseek_v3", "gpt_oss", "phi3_longrope"}


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x
        for x in GGUF_FAMILIES
    ],
)
def test_logits_are_those_of_transformers(family: str, tmp_path: Path):
    settings = UNSAID.get(family)
    opened = pretrained.open_model(inputs.write(family, tmp_path), settings=settings)
    assert largest_difference(opened.load(), family) < TOLERANCE
    assert opened.end_ids == (2,)
    assert opened.context == 64


@pytest.mark.parametrize(
    ("family", "assumed"),
    [
        ("llama", {"hidden_act": "silu", "sliding_window": None}),
        ("mixtral", {"hidden_act": "silu", "sliding_window": None}),
        (
            "qwen3_moe",
            {"hidden_act": "silu", "sliding_window": None, "norm_topk_prob": True},
        ),
    ],
)
def test_what_a_file_cannot_say_is_assumed_as_by_llama_cpp(
    family: str, assumed: dict, tmp_path: Path
):
    file = inputs.write(family, tmp_path)
    opened = pretrained.open_model(file)
    assert opened.assumed == assumed
    told = pretrained.open_model(file, settings=assumed)
    assert not told.assumed
    assert str(told.model.keywords) == str(opened.model.keywords)
    assert told.digest != opened.digest


def test_a_window_and_a_base_of_rotations_that_the_file_says_are_read(tmp_path: Path):
    file = inputs.write("llama", tmp_path, **{"llama.attention.sliding_window": 5})
    opened = pretrained.open_model(file)
    assert opened.model.keywords["attention_window"] == 5
    assert opened.model.keywords["rope_base"] == 10_000.0
    assert opened.assumed == {"hidden_act": "silu"}
    other = pretrained.open_model(file, settings={"sliding_window": None})
    assert other.model.keywords["attention_window"] is None


def test_the_layers_of_gemma_3_are_those_the_file_or_the_caller_names(tmp_path: Path):
    file = inputs.write("gemma3", tmp_path)
    model = pretrained.open_model(file).model  # every sixth, of three layers none
    assert model.keywords["attention_window"] == 3
    assert model.keywords["rope_base"] == 50.0
    settings = {"sliding_window_pattern": 2}
    kinds = pretrained.open_model(file, settings=settings).model.keywords
    windows = [kind.window for kind in kinds["attention_pattern"]]
    assert windows == [3, None, 3]
    for settings, message in [
        ({"sliding_window_pattern": None}, "'sliding_window_pattern' must be a number"),
        ({"sliding_window_pattern": 0}, "must be a positive integer"),
        ({"query_pre_attn_scalar": "24"}, "query_pre_attn_scalar must be a positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            pretrained.open_model(file, settings=settings)


def test_gemma_s_largest_models_have_another_factor_on_scores(tmp_path: Path):
    file = inputs.write("gemma2", tmp_path)
    assert pretrained.open_model(file).model.keywords[
        "attention_scale"
    ] == 1 / math.sqrt(8)
    sizes = {"dim": 4608, "num_heads": 32, "head_dim": 128}
    scale = gguf_families.FAMILIES["gemma2"].attention_scale
    assert scale({**sizes, "num_layers": 46}) == pytest.approx(144**-0.5)
    assert scale({**sizes, "num_layers": 42}) == pytest.approx(128**-0.5)


def test_a_setting_that_no_such_file_leaves_out_is_refused(tmp_path: Path):
    file = inputs.write("llama", tmp_path)
    for settings, message in {
        ("hidden_acts", "gelu"): "got 'hidden_acts'; did you mean 'hidden_act'",
        ("hidden_act", "relu"): r"hidden_act 'relu' is not supported: it must be one",
        ("norm_topk_prob", False): r"'norm_topk_prob' is of other models; .*window",
    }.items():
        with pytest.raises(ValueError, match=message):
            pretrained.open_model(file, settings=dict([settings]))


def test_arrays_are_those_of_the_folder_it_was_made_of(tmp_path: Path):
    opened = pretrained.open_model(inputs.write("smollm2", tmp_path))
    folder = pretrained.open_model(FIXTURES / "smollm2")
    jax.tree.map(np.testing.assert_array_equal, opened.arrays(), folder.arrays())
    assert opened.digest != folder.digest


def test_llama3_scaling_is_factors(tmp_path: Path):
    model = pretrained.open_model(inputs.write("llama3_scaling", tmp_path)).model
    scaling = model.keywords["rope_scaling"]
    assert isinstance(scaling, PerFrequency)
    assert len(scaling.factors) == 4
    assert 1 < scaling.factors[2] <= 8


def test_linear_scaling_is_read(tmp_path: Path):
    file = inputs.write("linear_scaling", tmp_path)
    assert pretrained.open_model(file).model.keywords["rope_scaling"].factor == 4.0


def test_quantized_tensors_become_float32(tmp_path: Path):
    draw = np.random.default_rng(0)
    shapes = {
        "token_embd": (64, 32),
        "output_norm": (32,),
        "blk.0.attn_norm": (32,),
        "blk.0.ffn_norm": (32,),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (32, 32),
        "blk.0.attn_v": (32, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    file = tmp_path / "quantized.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    expected = {}
    for name, shape in shapes.items():
        values = draw.normal(size=shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if len(shape) > 1 else None
        stored = gguf.quantize(values, kind) if kind is not None else values
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)
        expected[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    opened = pretrained.open_model(file)
    assert opened.assumed["rope_theta"] == 10_000.0  # the file names no base
    arrays = opened.arrays()
    assert {leaf.dtype for leaf in jax.tree.leaves(arrays)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(arrays["embedding"], expected["token_embd"], atol=0.02)
    up = arrays["blocks"]["0"]["mlp"]["up"]
    np.testing.assert_allclose(up, expected["blk.0.ffn_up"].T, atol=0.02)


def test_an_entry_that_nobody_knows_is_refused(tmp_path: Path):
    entry = {"llama.attention.causal_twist": 3}
    file = inputs.write("llama", tmp_path, **entry)
    with pytest.raises(ValueError, match=r"unknown entry 'attention\.causal_twist'"):
        pretrained.open_model(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qwen9moe", r"must be one of \['deepseek2', .*; did you mean 'qwen3moe'\?"),
        ("mamba", "'mamba' is not supported: layers of a recurrent state"),
        ("plm", "'plm' is not supported: attention over latents .* than DeepSeek-V3's"),
        ("qwen3vlmoe", "'qwen3vlmoe' is not supported: it reads images"),
    ],
)
def test_an_architecture_that_is_not_read_has_its_reason(name, message, tmp_path: Path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=message):
        pretrained.open_model(tmp_path / "other.gguf")


def test_no_family_that_is_read_is_refused():
    refused = {*refusals.REASONS}
    assert not refused & {*families.FAMILIES}
    # A folder of that name reads images, a file does not.
    assert refused & {*gguf_families.FAMILIES} == {"gemma3"}


def test_a_file_that_is_not_gguf_is_named(tmp_path: Path):
    file = tmp_path / "text.gguf"
    file.write_text("hello, this is no model at all, but some text")
    with pytest.raises(ValueError, match=r"text\.gguf is not a whole GGUF file"):
        pretrained.open_model(file)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch):
    file = inputs.write("llama", tmp_path)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match="needs the library gguf: pip install gguf"):
        pretrained.open_model(file)
