"""Headers of `.gguf` files: as the library `gguf` reads them, and broken ones."""

import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from models.pretrained.gguf_reader import GGUFReader


def written(folder: Path, *, align: int | None = None) -> Path:
    """Every type of value, and tensors of two types."""
    file = folder / "a.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    if align is not None:
        writer.add_custom_alignment(align)
    for name, value in {
        "uint8": 200,
        "int8": -5,
        "uint16": 60_000,
        "int16": -300,
    }.items():
        getattr(writer, f"add_{name}")(name, value)
    writer.add_uint32("uint32", 4_000_000_000)
    writer.add_int32("int32", -70_000)
    writer.add_uint64("uint64", 2**63)
    writer.add_int64("int64", -(2**62))
    writer.add_float32("float32", 1e-5)
    writer.add_float64("float64", 1e-5)
    writer.add_bool("bool", True)
    writer.add_string("text", "déjà vu")
    writer.add_array("texts", ["a", "", "½"])
    writer.add_array("integers", [1, -2, 3])
    writer.add_array("floats", [0.1, 2.5])
    writer.add_tensor("small", np.arange(3, dtype=np.float32))
    writer.add_tensor("large", np.arange(32, dtype=np.float16).reshape(2, 16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("align", [None, 64])
def test_entries_and_tensors_are_those_that_the_library_reads(align, tmp_path: Path):
    file = written(tmp_path, align=align)
    reader, theirs = GGUFReader(file), gguf.GGUFReader(file)
    expected = {
        name: field.contents()
        for name, field in theirs.fields.items()
        if not name.startswith("GGUF.")
    }
    assert reader.values("") == expected
    assert expected["texts"] == ["a", "", "½"]
    for tensor in theirs.tensors:
        values = reader.tensors()[tensor.name]()
        assert values.dtype == tensor.data.dtype
        assert values.shape == reader.shapes()[tensor.name]
        np.testing.assert_array_equal(values, tensor.data)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path):
    whole = written(tmp_path).read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.gguf is not a whole GGUF file: "):
            GGUFReader(cut).tensors()


@pytest.mark.parametrize(
    ("at", "content", "message"),
    [
        (0, b"GGML", "does not begin with GGUF"),
        (4, struct.pack("<I", 1), r"version 1, supported are \(2, 3\)"),
        (4, struct.pack(">I", 3), "version 50331648"),
        (16, struct.pack("<Q", 2**60), "it ends at byte"),
    ],
)
def test_a_broken_header_is_explained(
    at: int, content: bytes, message: str, tmp_path: Path
):
    file = written(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:at] + content + whole[at + len(content) :])
    with pytest.raises(ValueError, match=message):
        GGUFReader(file)


def test_a_header_is_read_without_the_library(tmp_path: Path, monkeypatch):
    file = written(tmp_path)
    monkeypatch.setitem(sys.modules, "gguf", None)
    reader = GGUFReader(file)
    assert reader.value("text") == "déjà vu"
    with pytest.raises(ValueError, match="needs the library gguf: pip install gguf"):
        reader.tensors()
