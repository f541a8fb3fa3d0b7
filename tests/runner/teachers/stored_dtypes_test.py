"""Published teachers in the types that their files store."""

import shutil

import gguf
import jax
import numpy as np
import pytest
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from runner.data.labels import Classes
from runner.teachers import OnlineTeacher
from runner.weights.published import PublishedWeights
from tests.models.pretrained import inputs
from tests.models.pretrained.tables import FIXTURES, expected
from tests.runner.teachers import examples


@pytest.fixture(autouse=True)
def any_vocabulary(monkeypatch):
    monkeypatch.setattr(PublishedWeights, "check_vocabulary", lambda *_, **__: None)


def load(path, **fields):
    context = examples.setting(Classes([str(i) for i in range(8)]))
    return OnlineTeacher(checkpoint=str(path), **fields).load(context)


def dtypes(loaded):
    params = loaded.read()["params"]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), loaded.abstract["params"]
    )
    return {x.dtype.name for x in jax.tree.leaves(params)}


def folder(tmp_path, dtype):
    copy = tmp_path / np.dtype(dtype).name
    shutil.copytree(FIXTURES / "llama", copy)
    tensors = load_file(copy / "model.safetensors")
    save_file(
        {name: x.astype(dtype) for name, x in tensors.items()},
        copy / "model.safetensors",
    )
    return copy


@pytest.mark.parametrize("dtype", [bfloat16, np.float16, np.float32])
def test_no_dtype_keeps_the_type_that_the_file_stores(tmp_path, dtype):
    path = folder(tmp_path, dtype)
    assert dtypes(load(path)) == {np.dtype(dtype).name}
    assert dtypes(load(path, dtype="float32")) == {"float32"}


def test_float64_is_read_as_float32(tmp_path):
    assert dtypes(load(folder(tmp_path, np.float64))) == {"float32"}


def test_the_logits_are_those_of_float32_parameters(tmp_path):
    path = folder(tmp_path, bfloat16)
    rows = {k: v for k, v in expected("llama").items() if k != "logits"}

    def logits(loaded):
        arrays = loaded.read()
        model = loaded.make(arrays["params"], arrays["variables"])
        return jax.jit(lambda rows: model.head(model.trunk(rows).hidden))(rows)

    np.testing.assert_array_equal(
        logits(load(path)), logits(load(path, dtype="float32"))
    )


def test_a_gguf_file_has_a_type_for_each_tensor(tmp_path, monkeypatch):
    """llama.cpp's converter keeps norms in float32, whatever the matrices are."""
    add = gguf.GGUFWriter.add_tensor

    def add_converted(writer, name, tensor):
        if tensor.ndim < 2:
            return add(writer, name, np.float32(tensor))
        if "ffn_up" in name:
            return add(writer, name, np.float16(tensor))
        halves = np.asarray(tensor, bfloat16).view(np.uint8)
        return add(writer, name, halves, raw_dtype=gguf.GGMLQuantizationType.BF16)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add_converted)
    loaded = load(inputs.write("llama", tmp_path))
    assert dtypes(loaded) == {"bfloat16", "float16", "float32"}
    layer = loaded.abstract["params"]["blocks"]["0"]
    assert layer["attention"]["query"].dtype == bfloat16
    assert layer["mlp"]["up"].dtype == np.float16
    assert layer["mlp_norm"]["scale"].dtype == np.float32
