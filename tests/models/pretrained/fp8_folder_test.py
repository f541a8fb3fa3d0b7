"""Folders as DeepSeek-V3 is published: 8 bits in blocks, a layer after the last."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from models import pretrained
from runner.weights.published import PublishedWeights
from tests.models.pretrained.folders import changed

BLOCK = (5, 4)  # which divides few of the matrices


def values(codes: np.ndarray) -> np.ndarray:
    """A sign, four bits of exponent (bias 7), three of fraction."""
    exponents, fractions = (codes >> 3 & 15).astype(np.int32), (codes & 7) / 8
    normal = (1 + fractions) * 2.0 ** (exponents - 7)
    sizes = np.where(exponents > 0, normal, fractions * 2.0**-6)
    return np.where(codes & 128, -sizes, sizes)


def published(folder: Path, *, block=BLOCK) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder with matrices of 8 bits, and what these stand for."""
    copy = changed(
        folder,
        "deepseek_v3",
        quantization_config={"quant_method": "fp8", "weight_block_size": list(block)},
    )
    draw, stored, numbers = np.random.default_rng(0), {}, {}
    for name, array in load_file(copy / "model.safetensors").items():
        stored[name] = ("F32", array)
        if array.ndim == 1 or not ("experts." in name or ".self_attn." in name):
            continue
        codes = draw.integers(0, 256, array.shape, dtype=np.uint8)
        codes[codes % 128 == 127] = 0  # no numbers
        blocks = [-(-n // size) for n, size in zip(array.shape, BLOCK, strict=True)]
        scales = draw.uniform(0.5, 2, blocks).astype(np.float32)
        whole = np.kron(scales, np.ones(BLOCK))[: len(array), : array.shape[1]]
        numbers[name] = values(codes) * whole
        stored[name] = ("F8_E4M3", codes)
        stored[f"{name}_scale_inv"] = ("F32", scales)
    beyond = {
        name.replace("layers.1.", "layers.2."): x
        for name, x in stored.items()
        if "layers.1." in name
    }
    header, content = {}, b""
    for name, (kind, array) in (stored | beyond).items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little")
    (copy / "model.safetensors").write_bytes(start + text + content)
    return copy, numbers


def test_weights_of_8_bits_are_read_times_the_scales_of_their_blocks(tmp_path: Path):
    folder, numbers = published(tmp_path)
    opened = pretrained.open_model(folder)
    assert len(numbers) > 10
    for name, expected in numbers.items():
        read = opened.source.tensors[name]()
        assert read.dtype == opened.source.dtypes[name] == np.float32
        np.testing.assert_allclose(read, expected, rtol=1e-6)
    assert opened.skipped
    assert all(name.startswith("model.layers.2.") for name in opened.skipped)
    config = json.loads((folder / "config.json").read_text())
    assert config["num_nextn_predict_layers"] == 1
    caution, *_ = PublishedWeights(str(folder)).cautions(8)
    assert "tensors of layers after the last, which predict further tok" in caution
    opened.readers()  # each tensor that is not skipped has its place
    other, _ = published(tmp_path / "other", block=(3, 4))
    tensors = pretrained.open_model(other).source.tensors
    with pytest.raises(
        ValueError, match=r"_scale_inv must be \[4, 4\], one a block of"
    ):
        tensors["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"]()
