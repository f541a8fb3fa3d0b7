"""Bytes are those of the documents, however a tokenizer writes them."""

import json

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from runner.data import TextFiles, TokenizedText, TokenizerFile, TokenRecords
from runner.data.text.record_files import write_token_records
from runner.data.text.vocabulary import vocabulary

TEXTS = [
    "def f(x):\n        return  x\n" * 9,
    "De\u0301ja\u0300 vu, e\u0301te\u0301 e\u0301te\u0301 " * 5,  # NFD
    "  spaces at both ends   ",
    "\u6771\u4eac a b c",
]


def byte_fallback(*steps):
    """As Llama-2 and Gemma: marks for spaces, and runs of marks added as tokens."""
    mark = "\u2581"
    characters = [*map(chr, range(33, 127)), *"\n\u00e9\u0301\u00e0\u0300", mark]
    pieces = ["<unk>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *characters]
    pieces += [mark * 2, mark * 4]
    model = models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[(mark, mark), (mark * 2, mark * 2)],
        byte_fallback=True,
        unk_token="<unk>",
        fuse_unk=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [*steps, normalizers.Replace(" ", mark)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(mark, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if steps else []),
        ]
    )
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    tokenizer.add_tokens(
        [AddedToken(mark * n, normalized=False) for n in (2, 4)]  # as Gemma's
    )
    return tokenizer


def byte_level(*steps):
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab={
                token: index
                for index, token in enumerate(
                    ["</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
                )
            },
            merges=[],
        )
    )
    tokenizer.normalizer = normalizers.Sequence(list(steps))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


KINDS = {
    "prefix": lambda: byte_fallback(normalizers.Prepend("\u2581")),
    "runs of spaces": byte_fallback,
    "NFC": lambda: byte_level(normalizers.NFC()),
    "strip": lambda: byte_level(normalizers.Strip()),
    "lower case and NFKD": lambda: byte_level(
        normalizers.NFKD(), normalizers.Lowercase()
    ),
    "nothing": byte_level,
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
    byte_level().save(str(tmp_path / "tokenizer.json"))
    rows = TokenizedText(
        documents=TextFiles(files=[str(tmp_path / "a.txt")]),
        tokenizer=TokenizerFile(str(tmp_path / "tokenizer.json")),
        sequence_length=16,
    ).load(cache=str(tmp_path / "cache"))
    assert rows.text_bytes(np.array([2])) == 16


def test_an_added_run_of_spaces_is_its_spaces():
    vocab = vocabulary(byte_fallback(), end=1)
    ids = vocab.encode("a        b")
    assert [vocab.pieces[i] for i in ids] == [b"a", b"    ", b"    ", b"b"]


def test_records_of_tokens_count_the_text_without_its_prefix(tmp_path):
    byte_fallback(normalizers.Prepend("\u2581")).save(str(tmp_path / "tokenizer.json"))
    tokenizer = TokenizerFile(str(tmp_path / "tokenizer.json"))
    vocab = tokenizer.load()
    path = tmp_path / "a.tokens"
    write_token_records(path, vocab.encode_all(TEXTS), vocabulary=vocab)
    records = TokenRecords(files=[str(path)], tokenizer=tokenizer)
    assert records.load(cache=str(tmp_path)).num_bytes == len("".join(TEXTS).encode())
    assert json.loads((tmp_path / "a.tokens.json").read_text())["records"] == len(TEXTS)
