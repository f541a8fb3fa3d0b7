"""Tokenizers cut to the tokens that documents use, against the whole ones."""

import dataclasses
import json

import numpy as np
import pytest
import tokenizers

from runner.data import GGUFTokenizer, TextFiles, UsedTokens
from runner.data.text.cut import bpe
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.vocabulary import vocabulary
from runner.errors import UserError
from tests.runner.data.text import gguf_files, tiny_tokenizers


@dataclasses.dataclass(frozen=True)
class Ready(TokenizerSource):
    """A tokenizer that is there already."""

    content: str

    def check(self):
        pass

    def load(self, *, cache=""):
        del cache
        tokenizer = tokenizers.Tokenizer.from_str(self.content)
        return vocabulary(tokenizer, end=2, source="it")


def used(tokenizer, folder, *texts, cache):
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03}.txt").write_bytes(text.encode())
    documents = TextFiles(files=[str(folder)])
    return UsedTokens(tokenizer=Ready(tokenizer.to_str()), documents=documents).load(
        cache=cache
    )


@pytest.mark.parametrize("name", gguf_files.NAMES)
def test_documents_keep_their_tokens_and_other_texts_are_written_with_fewer(
    name, tmp_path, cache
):
    entries, rows = gguf_files.read(name)
    file = gguf_files.write(tmp_path, entries)
    whole = GGUFTokenizer(file=file).load().tokenizer
    texts = [text for text, _ in rows if "\0" not in text]
    half = texts[::2]
    small = used(whole, tmp_path / "texts", *half, cache=cache)
    assert small.cut is not None and small.size < small.cut.whole.size
    for text, ids in zip(half, small.encode_all(half), strict=True):
        assert (
            small.cut.ids[ids].tolist()
            == whole.encode(text, add_special_tokens=False).ids
        ), text
    for one, index in enumerate(small.cut.ids):
        assert small.meaning(one) == small.cut.whole.meaning(int(index))
    # Every other text is still written, in the same bytes.
    for text, ids in zip(texts, small.encode_all(texts), strict=True):
        assert small.decode(ids) == small.cut.whole.decode(
            small.cut.whole.encode(text)
        ), text


def test_ends_and_post_processors_have_the_new_numbers(tmp_path, cache):
    tokenizer = tiny_tokenizers.byte_level("<s>", "<|endoftext|>", "</s>")
    names = tokenizer.get_vocab()
    definition = json.loads(tiny_tokenizers.around(tokenizer, "<s> $A </s>").to_str())
    without = sorted(set(names.values()) - {names["th"]})
    definition["post_processor"]["processors"].append(
        {"type": "RobertaProcessing", "sep": ["</s>", 259], "cls": ["<s>", 257]}
    )
    small = bpe.cut(definition, frozenset(without), source="it")
    assert "th" not in small["model"]["vocab"] and small["model"]["merges"] == []
    again = tokenizers.Tokenizer.from_str(json.dumps(small))
    new = again.get_vocab()
    assert [new[x] for x in ("<s>", "<|endoftext|>", "</s>")] == [256, 257, 258]
    template, roberta = small["post_processor"]["processors"][1:]
    assert template["special_tokens"]["</s>"]["ids"] == [258]
    assert (roberta["sep"], roberta["cls"]) == (["</s>", 258], ["<s>", 256])


def test_parts_of_merges_stay_and_merges_of_what_is_gone_do_not():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "ab", "abc", "cd", "bc"]
    merges = [["a", "b"], ["ab", "c"], ["c", "d"], ["b", "c"], ["a", "bc"]]
    definition = json.loads(tiny_tokenizers.byte_level().to_str())
    definition["model"] |= {
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": merges,
    }
    small = bpe.cut(definition, frozenset({tokens.index("abc")}), source="it")
    assert small["model"]["vocab"].keys() == {*alphabet, "ab", "abc", "bc"}
    assert small["model"]["merges"] == [*merges[:2], *merges[3:]]


def test_what_is_no_byte_pair_encoding_is_refused(tmp_path):
    definition = json.loads(tiny_tokenizers.byte_level().to_str())
    clip = {
        **definition,
        "model": {**definition["model"], "end_of_word_suffix": "</w>"},
    }
    unigram = {**definition, "model": {"type": "Unigram", "vocab": []}}
    strange = {**definition, "post_processor": {"type": "Other"}}
    for other, message in [
        (clip, "it: only a byte-level .* BPE is cut .*, not BPE with end_of_word"),
        (unigram, "not Unigram"),
        (strange, "it: post-processor Other cannot be cut"),
    ]:
        with pytest.raises(UserError, match=message):
            bpe.cut(other, frozenset({1}), source="it")


def test_a_cut_that_would_change_a_document_is_refused(tmp_path, cache, monkeypatch):
    cut = bpe.cut
    monkeypatch.setattr(
        bpe, "cut", lambda d, _, source: cut(d, frozenset({0}), source=source)
    )
    with pytest.raises(UserError, match=r"it cannot be cut .*: .*000.txt would be cut"):
        used(tiny_tokenizers.byte_level("<e>", "<f>"), tmp_path, "the", cache=cache)


def test_it_is_cut_once_and_again_where_a_document_changed(
    tmp_path, cache, monkeypatch
):
    tokenizer = tiny_tokenizers.byte_level("<e>", "<f>")
    first = used(tokenizer, tmp_path / "texts", "the", cache=cache)
    monkeypatch.setattr(UsedTokens, "_cut", None)
    again = used(tokenizer, tmp_path / "texts", "the", cache=cache)
    assert again.digest == first.digest
    assert np.array_equal(again.cut.ids, first.cut.ids)
    with pytest.raises(TypeError):
        used(tokenizer, tmp_path / "texts", "other", cache=cache)
