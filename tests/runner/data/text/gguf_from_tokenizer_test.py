"""Tokenizers as entries of `.gguf` files: read again, they give the same ids."""

import json

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers
from tokenizers import pre_tokenizers as pre

from runner.data.text.gguf import byte_level, from_tokenizer, sentencepiece
from runner.errors import UserError
from tests.runner.data.text import gguf_files, tiny_tokenizers

BUILD = {"gpt2": byte_level.build, "llama": sentencepiece.build}


def built(entries: dict) -> Tokenizer:
    tokenizer = BUILD[entries["model"]]("it", entries)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.mark.parametrize("name", gguf_files.NAMES)
def test_published_vocabularies_come_back(name: str):
    entries, rows = gguf_files.read(name)
    if entries["model"] == "llama":  # the cut leaves numbers of tokens out
        entries["unknown_token_id"] = 0
    tokenizer = built(entries)
    again = from_tokenizer.entries(tokenizer, size=len(entries["tokens"]))
    unused = [i for i, kind in enumerate(entries["token_type"]) if kind == 5]
    for part in ("tokens", "token_type", "merges", "pre"):
        ours, theirs = again.get(part), entries.get(part, again.get(part))
        if part in ("tokens", "token_type"):
            ours, theirs = (
                [x for i, x in enumerate(values) if i not in unused]
                for values in (ours, theirs)
            )
        assert ours == theirs, part
    rebuilt = built(again)
    for text, ids in rows:
        assert rebuilt.encode(text, add_special_tokens=False).ids == ids


def test_the_rest_of_a_vocabulary_is_unused():
    entries = from_tokenizer.entries(tiny_tokenizers.byte_level("<e>"), size=260)
    assert entries["tokens"][-3:] == ["<e>", "[PAD258]", "[PAD259]"]
    assert entries["token_type"][-4:] == [1, 3, 5, 5]
    assert entries["pre"] == "gpt-2"
    assert entries["merges"] == ["t h"]


def cut(*steps) -> Tokenizer:
    tokenizer = tiny_tokenizers.byte_level("<e>")
    tokenizer.pre_tokenizer = pre.Sequence([*steps, pre.ByteLevel(False)])
    return tokenizer


def test_digits_on_their_own_are_those_of_smollm():
    tokenizer = cut(pre.Digits(individual_digits=True))
    assert from_tokenizer.entries(tokenizer, size=258)["pre"] == "smollm"


def normalized(normalizer) -> Tokenizer:
    tokenizer = tiny_tokenizers.byte_level("<e>")
    tokenizer.normalizer = normalizer
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        cut(pre.Digits(individual_digits=False)),
        cut(pre.Split(Regex(r"\p{L}+"), behavior="isolated")),
        cut(pre.Split("x", behavior="isolated")),
        normalized(normalizers.Lowercase()),
    ],
    ids=lambda tokenizer: json.loads(tokenizer.to_str())["pre_tokenizer"]["type"],
)
def test_a_cut_without_a_name_is_refused(tokenizer: Tokenizer):
    with pytest.raises(UserError, match=r"no name for; its names here: .*qwen2.*hf"):
        from_tokenizer.entries(tokenizer, size=258)


def test_merges_that_no_scores_give_are_refused():
    tokenizer = tiny_tokenizers.byte_fallback("<unk>", "<s>", prefix=True)
    definition = json.loads(tokenizer.to_str())
    # The second makes a piece of which one split is missing.
    definition["model"]["vocab"] |= {"abc": 500, "ab": 501, "bc": 502}
    definition["model"]["merges"] += [["a", "b"], ["b", "c"], ["ab", "c"]]
    with pytest.raises(UserError, match="not as SentencePiece makes one of scores"):
        from_tokenizer.entries(Tokenizer.from_str(json.dumps(definition)), size=503)


def test_a_token_that_strips_is_refused():
    tokenizer = tiny_tokenizers.byte_level("<e>")
    tokenizer.add_tokens([AddedToken("<x>", rstrip=True)])
    with pytest.raises(UserError, match="'<x>' has rstrip, which"):
        from_tokenizer.entries(tokenizer, size=259)
