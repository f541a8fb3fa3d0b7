"""Bytes are those of the documents, however a tokenizer writes them."""

import json

import numpy as np
import pytest
from tokenizers import normalizers

from runner.data import TextFiles, TokenizedText, TokenizerFile, TokenRecords
from runner.data.text.record_files import write_token_records
from runner.data.text.vocabulary import vocabulary
from tests.runner.data.text.tiny_tokenizers import byte_fallback, byte_level

TEXTS = [
    "def f(x):\n        return  x\n" * 9,
    "De\u0301ja\u0300 vu, e\u0301te\u0301 e\u0301te\u0301 " * 5,  # NFD
    "  spaces at both ends   ",
    "\u6771\u4eac a b c",
]


def fallback(*, prefix=False):
    return byte_fallback("<unk>", "</s>", prefix=prefix)


def normalized(step):
    tokenizer = byte_level("</s>")
    tokenizer.normalizer = step
    return tokenizer


KINDS = {
    "prefix": lambda: fallback(prefix=True),
    "runs of spaces": fallback,
    "NFC": lambda: normalized(normalizers.NFC()),
    "strip": lambda: normalized(normalizers.Strip()),
    "lower case and NFKD": lambda: normalized(
        normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()])
    ),
    "nothing": lambda: byte_level("</s>"),
}


@pytest.fixture(params=KINDS)
def dataset(request, tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i}.txt").write_text(text)
    KINDS[request.param]().save(str(tmp_path / "tokenizer.json"))
    return TokenizedText(
        documents=TextFiles(files=[str(tmp_path / "*.txt")]),
        tokenizer=TokenizerFile(str(tmp_path / "tokenizer.json")),
        sequence_length=16,
    ).load(cache=str(tmp_path / "cache"))


def test_the_bytes_of_all_rows_are_the_bytes_of_the_documents(dataset):
    expected = len("".join(TEXTS).encode())
    assert dataset.num_bytes == dataset.describe()["bytes"] == expected
    assert dataset.text_bytes(np.arange(len(dataset))) == expected


def test_parts_of_documents_add_up_to_the_documents(dataset):
    parts = [dataset.text_bytes(np.array([i])) for i in range(len(dataset))]
    np.testing.assert_allclose(sum(parts), len("".join(TEXTS).encode()), rtol=1e-12)
    assert all(part >= 0 for part in parts)
    half = dataset.part(len(dataset) // 2)
    chosen = [parts[i] for i in half.selection]
    np.testing.assert_allclose(half.text_bytes(np.arange(len(half))), sum(chosen))


def test_where_ids_are_the_text_a_row_has_the_bytes_of_its_pieces(tmp_path):
    (tmp_path / "a.txt").write_text("".join(TEXTS))
    byte_level("</s>").save(str(tmp_path / "tokenizer.json"))
    rows = TokenizedText(
        documents=TextFiles(files=[str(tmp_path / "a.txt")]),
        tokenizer=TokenizerFile(str(tmp_path / "tokenizer.json")),
        sequence_length=16,
    ).load(cache=str(tmp_path / "cache"))
    assert rows.text_bytes(np.array([2])) == 16


def test_an_added_run_of_spaces_is_its_spaces():
    vocab = vocabulary(fallback(), end=1)
    ids = vocab.encode("a        b")
    assert [vocab.pieces[i] for i in ids] == [b"a", b"    ", b"    ", b"b"]


def test_records_of_tokens_count_the_text_without_its_prefix(tmp_path):
    fallback(prefix=True).save(str(tmp_path / "tokenizer.json"))
    tokenizer = TokenizerFile(str(tmp_path / "tokenizer.json"))
    vocab = tokenizer.load()
    path = tmp_path / "a.tokens"
    write_token_records(path, vocab.encode_all(TEXTS), vocabulary=vocab)
    records = TokenRecords(files=[str(path)], tokenizer=tokenizer)
    assert records.load(cache=str(tmp_path)).num_bytes == len("".join(TEXTS).encode())
    assert json.loads((tmp_path / "a.tokens.json").read_text())["records"] == len(TEXTS)
