"""Files that llama.cpp's converter made, beside the folders that it made them of."""

import shutil
from pathlib import Path

import gguf
import jax
import numpy as np
import pytest

from models import pretrained
from models.pretrained.gguf_reader import GGUFReader
from models.pretrained.writing.description import describe, differences
from tests.models.pretrained.tables import FIXTURES, UNSAID


def rewritten(folder: Path, family: str, tensors=(), **entries) -> Path:
    """A fixture's `converted.gguf` with other entries, those of None left out."""
    before = GGUFReader(FIXTURES / family / "converted.gguf")
    metadata = dict(before.values(""))
    name = metadata.pop("general.architecture")
    prefixed = {f"{name}.{key.replace('__', '.')}": x for key, x in entries.items()}
    writer = gguf.GGUFWriter(folder / "changed.gguf", name)
    for key, value in (metadata | prefixed).items():
        add = {bool: writer.add_bool, float: writer.add_float32, str: writer.add_string}
        if value is not None:
            add.get(type(value), writer.add_uint32)(key, value)
    arrays = {key: np.array(read()) for key, read in before.tensors().items()}
    for key, value in (arrays | dict(tensors)).items():
        if value is not None:
            writer.add_tensor(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "changed.gguf"


def test_a_converted_file_is_the_model_of_its_folder():
    for family in ("deepseek_v3", "gpt_oss", "phi3_longrope"):
        folder, name = pretrained.open_model(FIXTURES / family), "converted.gguf"
        settings = UNSAID.get(family)
        file = pretrained.open_model(FIXTURES / family / name, settings=settings)
        ours, theirs = describe(folder.model), describe(file.model)
        # Numbers are float32 there.
        assert not differences(ours, theirs, rounding=1e-6), family
        jax.tree.map(np.testing.assert_array_equal, file.arrays(), folder.arrays())
        assert (file.end_ids, file.context) == ((2,), 64)


def test_older_files_have_keys_and_values_of_latents_in_one_tensor(tmp_path: Path):
    folder = pretrained.open_model(FIXTURES / "deepseek_v3")
    tensors: dict = {}
    for layer in range(2):
        both = folder.source.tensors[f"model.layers.{layer}.self_attn.kv_b_proj.weight"]
        tensors[f"blk.{layer}.attn_kv_b.weight"] = both()
        tensors |= {f"blk.{layer}.attn_{name}_b.weight": None for name in "kv"}
    entries = {
        "attention__key_length_mla": None,
        "attention__value_length_mla": None,
        "attention__head_count_kv": 4,
        "attention__key_length": 10,
        "attention__value_length": 5,
    }
    file = pretrained.open_model(rewritten(tmp_path, "deepseek_v3", tensors, **entries))
    assert file.model.keywords["latents"].value_dim == 5
    jax.tree.map(np.testing.assert_array_equal, file.arrays(), folder.arrays())


def test_what_a_file_leaves_out_is_asked_for_or_as_llama_cpp_has_it(tmp_path: Path):
    absent = {"expert_gating_func": None, "rope__scaling__yarn_log_multiplier": None}
    file = rewritten(tmp_path, "deepseek_v3", **absent)
    with pytest.raises(
        ValueError, match=r"settings=\{'scoring_func': 'sigmoid'\} says"
    ):
        pretrained.open_model(file)
    told = pretrained.open_model(file, settings={"scoring_func": "sigmoid"})
    keywords = told.model.keywords
    assert keywords["mlp"].keywords["routing"].scores == "sigmoid"
    # YaRN's amplitude, which is in the scores twice once more.
    assert keywords["rope_scaling"].amplitude is None
    scale = (1 + np.log(4) / 10) ** 2 / np.sqrt(10)
    assert keywords["attention_scale"] == pytest.approx(scale)


def test_experts_of_4_bits_are_read_as_ggml_packs_them(tmp_path: Path):
    """A scale `2^(s - 127)`, then bytes: element j the lower half, j + 16 the upper."""
    file = shutil.copy(FIXTURES / "gpt_oss" / "converted.gguf", tmp_path)
    draw, name = np.random.default_rng(0), "blk.1.ffn_down_exps.weight"
    codes = draw.integers(0, 16, (4 * 32, 32), dtype=np.uint8)
    scales = draw.integers(120, 130, (4 * 32, 1), dtype=np.uint8)
    packed = np.concatenate([scales, codes[:, :16] | codes[:, 16:] << 4], axis=1)
    sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = np.concatenate([sizes, -sizes])[codes] * 2.0 ** (scales - 127.0)
    writer = gguf.GGUFWriter(tmp_path / "packed.gguf", "gpt-oss")
    writer.add_tensor(
        name, packed.reshape(4, 32, 17), raw_dtype=gguf.GGMLQuantizationType.MXFP4
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reader = GGUFReader(tmp_path / "packed.gguf")
    assert reader.shapes()[name] == GGUFReader(Path(file)).shapes()[name]
    np.testing.assert_array_equal(reader.tensors()[name]().ravel(), values.ravel())
