"""Entries of `config.json`: what each means, absent or old, and which are refused."""

import math
from pathlib import Path

import pytest

from models import pretrained, rope_scaling
from tests.models.pretrained.folders import changed
from tests.models.pretrained.tables import FIXTURES


@pytest.mark.parametrize(
    ("family", "drop", "entries", "field", "expected"),
    [
        ("llama", "rope_parameters", {}, "rope_base", 1e4),
        ("mistral", "rope_parameters", {}, "rope_base", 1e4),
        ("mixtral", "rope_parameters", {}, "rope_base", 1e6),
        ("qwen2", "rope_parameters", {}, "rope_base", 1e4),
        ("qwen3", "rope_parameters", {}, "rope_base", 1e4),
        ("qwen3_moe", "rope_parameters", {}, "rope_base", 1e4),
        ("mistral", "sliding_window", {}, "attention_window", 4096),
        ("mistral", "", {"sliding_window": None}, "attention_window", None),
        ("mixtral", "sliding_window", {}, "attention_window", None),
        ("qwen3_moe", "sliding_window", {}, "attention_window", None),
        ("qwen2_moe", "rope_parameters", {}, "rope_base", 1e4),
        ("qwen2_moe_sliding", "qkv_bias", {}, "attention_bias", True),
        ("gpt_oss", "head_dim", {}, "head_dim", 64),
        ("gemma", "tie_word_embeddings", {}, "tie_head", True),
        ("gemma2", "attn_logit_softcapping", {}, "attention_soft_cap", 50.0),
        ("gemma2", "final_logit_softcapping", {}, "logit_soft_cap", 30.0),
        ("gemma2", "query_pre_attn_scalar", {}, "attention_scale", 1 / 16),
        ("gemma3", "final_logit_softcapping", {}, "logit_soft_cap", None),
        ("granite", "attention_multiplier", {}, "attention_scale", 1.0),
        ("olmoe", "rope_parameters", {}, "rope_base", 1e4),
        ("smollm3", "tie_word_embeddings", {}, "tie_head", True),
        (
            "qwen3_moe",
            "sliding_window",
            {"use_sliding_window": True},
            "attention_window",
            4096,
        ),
        (
            "qwen2_sliding",
            "max_window_layers",
            {"layer_types": None},
            "attention_window",
            None,
        ),
    ],
)
def test_an_absent_entry_means_what_it_does_to_transformers(
    family, drop, entries, field, expected, tmp_path: Path
):
    """Values of the `...Config` classes of transformers 5.24.0."""
    opened = pretrained.open_model(changed(tmp_path, family, (drop,), **entries))
    assert opened.model.keywords[field] == expected


def test_entries_of_older_files_mean_the_same(tmp_path: Path):
    old = {
        "rope_theta": 500.0,
        "rope_scaling": {
            "type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "torch_dtype": "bfloat16",
        "pretraining_tp": 1,
    }
    drop = ("rope_parameters", "head_dim", "num_key_value_heads")
    fields = pretrained.open_model(
        changed(tmp_path, "llama", drop, **old)
    ).model.keywords
    assert fields["rope_base"] == 500.0
    assert fields["rope_scaling"] == rope_scaling.Llama3(
        factor=8.0, low_turns=1.0, high_turns=4.0, original_length=32
    )
    assert fields["head_dim"] is None
    assert fields["num_kv_heads"] is None


def test_gemma_is_read_from_older_files_too(tmp_path: Path):
    """Entries as of transformers 4.50, of the fixtures that 5.24 wrote."""
    older = changed(
        tmp_path / "3",
        "gemma3",
        rope_parameters=None,
        rope_theta=500.0,
        rope_scaling={"rope_type": "linear", "factor": 2.0},
        rope_local_base_freq=50.0,
        layer_types=None,
        sliding_window_pattern=3,
    )
    model = pretrained.open_model(older).model
    assert str(model) == str(pretrained.open_model(FIXTURES / "gemma3").model)
    legacy = changed(tmp_path / "1", "gemma", hidden_act="gelu", hidden_activation=None)
    model = pretrained.open_model(legacy).model
    assert str(model) == str(pretrained.open_model(FIXTURES / "gemma").model)


def test_deepseek_s_factors_of_yarn_are_one_amplitude(tmp_path: Path):
    scaling = {
        "type": "yarn",
        "factor": 40,
        "original_max_position_embeddings": 4096,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    }
    entries = {"rope_parameters": None, "rope_scaling": scaling}
    model = pretrained.open_model(changed(tmp_path, "llama", **entries)).model
    scale = math.log(40) / 10
    read = model.keywords["rope_scaling"]
    assert (read.factor, read.original_length, read.fast_turns) == (40, 4096, 32)
    assert read.amplitude == pytest.approx((1 + scale) / (1 + scale / 2))


def test_longrope_of_older_files_has_the_amplitude_of_its_factor(tmp_path: Path):
    """√(1 + ln(131,072 / 4,096) / ln 4,096), as Phi-3-mini-128k's `config.json`."""
    older = {
        "rope_parameters": None,
        "rope_scaling": {
            "type": "su",
            "short_factor": [1.0, 1],
            "long_factor": [2, 6.0],
        },
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
    }
    model = pretrained.open_model(changed(tmp_path, "phi3_longrope", **older)).model
    read = model.keywords["rope_scaling"]
    assert (read.short, read.long) == ((1.0, 1.0), (2.0, 6.0))
    assert read.original_length == 4096
    assert read.amplitude == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)))


def test_qwen2_moe_has_its_window_in_every_other_of_its_first_layers(tmp_path: Path):
    entries = {"layer_types": None, "num_hidden_layers": 5, "max_window_layers": 3}
    folder = changed(tmp_path, "qwen2_moe_sliding", **entries)
    kinds = pretrained.open_model(folder).model.keywords["attention_pattern"]
    assert [kind.window for kind in kinds] == [3, None, 3, None, None]


# As `config.json` of published models have them; none changes a logit.
HARMLESS = {
    "_name_or_path": "x",
    "attn_implementation": "eager",
    "auto_map": {"AutoModelForCausalLM": "modeling.LlamaForCausalLM"},
    "bos_token_id": 1,
    "do_sample": True,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": True,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "max_sequence_length": 2048,
    "num_labels": 3,
    "repetition_penalty": 1.1,
    "return_dict": True,
    "return_dict_in_generate": True,
    "task_specific_params": {"text-generation": {"max_length": 50}},
    "temperature": 0.6,
    "tokenizer_class": "LlamaTokenizer",
    "top_k": 50,
    "top_p": 0.9,
    "torchscript": True,
}


def test_entries_that_change_no_logit_are_accepted(tmp_path: Path):
    folder = changed(tmp_path, "llama", **HARMLESS)
    model = pretrained.open_model(folder).model
    assert str(model) == str(pretrained.open_model(FIXTURES / "llama").model)
    known = {"max_window_layers": 48}  # Qwen3-30B-A3B; its class does not read it
    assert pretrained.open_model(changed(tmp_path, "qwen3_moe", **known))


@pytest.mark.parametrize(
    ("family", "entries", "message"),
    [
        (
            "llama",
            {"model_type": "lama"},
            r"'lama' is not supported: it must be .*; did you mean 'llama'\?",
        ),
        ("gpt_oss", {"rope_parameters": None}, "no 'rope_parameters'"),
        (
            "llama",
            {
                "quantization_config": {
                    "quant_method": "fp8",
                    "weight_block_size": [128, 0],
                }
            },
            r"the weights are quantized \(quantization_config: fp8\), in a form that",
        ),
        (
            "llama",
            {"quantization_config": {"quant_method": "mxfp4"}},
            r"the weights are quantized \(quantization_config: mxfp4\)",
        ),
        ("llama", {"model_type": "mamba"}, "'mamba' is not supported: layers of a rec"),
        (
            "qwen2_moe",
            {"shared_expert_intermediate_size": 20},
            "20 is not supported: it must be a multiple of moe_intermediate_size, 12",
        ),
        (
            "phi3_longrope",
            {"original_max_position_embeddings": 0},
            "original_max_position_embeddings must be a positive integer",
        ),
        ("llama", {"attention_bias": True}, "attention_bias True is not supported"),
        ("llama", {"mlp_bias": True}, "mlp_bias True is not supported"),
        ("llama", {"hidden_act": "relu"}, "hidden_act 'relu' .* one of .*'silu'"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        (
            "llama",
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            r"the weights are quantized \(quantization_config: gptq\), .* \.gguf",
        ),
        ("llama", {"quantization": {"bits": 4}}, "quantized \\(quantization\\),"),
        ("llama", {"rope_theta": 5.0}, "rope_theta 5.0 .* rope_parameters has another"),
        (
            "llama",
            {"causal_twist": 3},
            r"'causal_twist' \(3\), .* settings={'causal_twist': None} reads the model",
        ),
        ("llama", {"vocab_size": None}, r"config\.json: no 'vocab_size'"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            "rope type 'dynamic' .*'default', 'linear', 'llama3', 'longrope', 'yarn'",
        ),
        (
            "phi3",
            {"rope_scaling": {"type": "longrope"}, "rope_parameters": None},
            "no 'short_factor'",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "mscale": 2.0}},
            "unknown entry 'mscale'",
        ),
        (
            "qwen2_sliding",
            {"layer_types": ["full_attention", "chunked_attention"]},
            "layer_types .* must be 'full_attention' or 'sliding_attention', one a lay",
        ),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types .* one a layer"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "needs a sliding_window"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "must be a positive integer of 31 bi"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers .* one number a layer"),
        ("smollm3", {"no_rope_layers": "10"}, "no_rope_layers must be a list of 0 an"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv 8.0"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step 2"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, r"mlp_only_layers \[0\]"),
    ],
    ids=str,
)
def test_an_unsupported_entry_is_refused(family, entries, message, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        pretrained.open_model(changed(tmp_path, family, **entries))


def test_settings_override_entries_of_the_file(tmp_path: Path):
    folder = changed(tmp_path, "llama", causal_twist=3, sliding_window=None)
    settings = {"causal_twist": None, "hidden_act": "gelu", "rms_norm_eps": 1e-3}
    opened = pretrained.open_model(folder, settings=settings)
    assert opened.model.keywords["norm_eps"] == 1e-3
    assert opened.model.keywords["mlp"].keywords["activation"] == "gelu_exact"
    assert (opened.context, opened.assumed) == (64, {})
    others = pretrained.open_model(folder, settings={"causal_twist": None})
    assert opened.digest != others.digest
