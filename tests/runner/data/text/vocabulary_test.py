import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from runner.data import ByteBPE, Document, Documents
from runner.data.text.vocabulary import vocabulary


class Fixed(Documents):
    """Two documents."""

    def check(self):
        pass

    def __iter__(self):
        yield Document("a", "def f(x):\n    return x\n" * 20)
        yield Document("b", "le café naïf, 東京 " * 20)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return ByteBPE(documents=Fixed(), vocab_size=280).load(cache=cache)


@pytest.fixture(scope="module")
def byte_fallback():
    """As Gemma: spaces are marks, and what is no token falls back to bytes."""
    pieces = ["<eos>", *(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581abc", "ab"]
    model = models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[("a", "b")],
        byte_fallback=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["<eos>"])
    return vocabulary(tokenizer, end=0)


texts = st.text(st.characters(exclude_categories=["Cs"]))
quoting = example("a <|endoftext|> <eos> b\r\n\t\x00🙂")


@given(texts)
@quoting
def test_byte_level_ids_stand_for_exactly_the_bytes_of_the_text(byte_level, text):
    ids = byte_level.encode(text)
    assert b"".join(byte_level.pieces[i] for i in ids) == text.encode()
    assert byte_level.token_bytes[ids].sum() == len(text.encode())
    assert byte_level.end not in ids
    assert byte_level.decode(ids) == text


@given(st.text("abc d\u00e9\u6771<>x0E9"))
@quoting
def test_byte_fallback_ids_stand_for_exactly_the_bytes_too(byte_fallback, text):
    ids = byte_fallback.encode(text)
    assert b"".join(byte_fallback.pieces[i] for i in ids) == text.encode()
    assert byte_fallback.end not in ids
    assert byte_fallback.decode(ids) == text


def test_special_tokens_have_no_bytes(byte_level):
    assert byte_level.token_bytes[byte_level.end] == 0
    assert byte_level.token_bytes.dtype == np.int32
    assert byte_level.token_bytes.shape == (280,)
    assert (byte_level.token_bytes[1:] > 0).all()


def test_texts_are_encoded_in_order_over_many_batches(byte_level):
    texts = [f"text {i}" * (i % 7) for i in range(1000)]
    for text, ids in zip(texts, byte_level.encode_all(iter(texts)), strict=True):
        assert byte_level.decode(ids) == text


def test_padding_and_truncation_in_a_tokenizer_are_taken_out(byte_level):
    tokenizer = tokenizers.Tokenizer.from_str(byte_level.tokenizer.to_str())
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    ids = vocabulary(tokenizer, end=0).encode("def f(x): return")
    np.testing.assert_array_equal(ids, byte_level.encode("def f(x): return"))


def test_added_tokens_that_are_text_count_their_bytes():
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "Ġ": 1}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens([AddedToken("\u00e9\u00e9", special=False)])
    tokenizer.add_special_tokens([AddedToken("<e>", special=True)])
    assert vocabulary(tokenizer, end=3).token_bytes.tolist() == [1, 1, 4, 0]


def test_the_digest_sees_order_bytes_specials_and_end():
    def digest(vocab, special, end):
        tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.add_special_tokens(special)
        return vocabulary(tokenizer, end=end).digest

    reference = digest({"a": 0, "b": 1}, ["<e>"], 2)
    assert reference == digest({"b": 1, "a": 0}, ["<e>"], 2)
    others = [
        digest({"b": 0, "a": 1}, ["<e>"], 2),
        digest({"a": 0, "c": 1}, ["<e>"], 2),
        digest({"a": 0, "b": 1}, ["b"], 1),
        digest({"a": 0, "b": 1}, ["<e>", "<f>"], 2),
        digest({"a": 0, "b": 1}, ["<e>", "<f>"], 3),
    ]
    assert len({reference, *others}) == 6
