import bz2
import gzip
import json
import lzma

import pytest

from runner.data import Document, JsonLines, TextFiles
from runner.errors import UserError

LINES = [{"text": f"line {i} é"} for i in range(300)]
CONTENT = "".join(json.dumps(line) + "\n" for line in LINES).encode()


def zstd(content):
    library = pytest.importorskip("zstandard")
    half = len(content) // 2  # two frames, as pzstd and appended logs have
    frames = content[:half], content[half:]
    return b"".join(library.ZstdCompressor().compress(frame) for frame in frames)


FORMS = {"gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
def test_a_compressed_file_is_what_it_was_compressed_from(tmp_path, form):
    path = tmp_path / f"a.jsonl.{form}"
    path.write_bytes(FORMS[form](CONTENT))
    assert [d.text for d in JsonLines(files=[str(path)])] == [x["text"] for x in LINES]
    name = f"a.jsonl.{form}"
    assert list(TextFiles(files=[str(path)])) == [Document(name, CONTENT.decode())]


@every_form
def test_a_name_decides_nothing(tmp_path, form):
    path = tmp_path / "a.jsonl"
    path.write_bytes(FORMS[form](CONTENT))
    assert len(list(JsonLines(files=[str(path)]))) == len(LINES)


@every_form
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_refused_and_never_read_in_part(tmp_path, form, damage):
    whole = FORMS[form](CONTENT)
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 0x55] * 8) + whole[middle + 8 :]
    path = tmp_path / f"a.jsonl.{form}"
    path.write_bytes(whole[: len(whole) - 9] if damage == "cut" else changed)
    with pytest.raises(UserError, match=r"a\.jsonl\.\w+.*"):
        list(JsonLines(files=[str(path)]))
    with pytest.raises(UserError) as error:
        list(TextFiles(files=[str(path)]))
    assert len(str(error.value).splitlines()) == 1


def test_what_lies_within_is_named_too(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"PAR1\x00\xff"))
    for documents in (TextFiles(files=[str(path)]), JsonLines(files=[str(path)])):
        with pytest.raises(UserError, match="a Parquet file"):
            list(documents)
