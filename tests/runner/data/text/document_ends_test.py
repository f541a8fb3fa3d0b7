"""Documents begin and end as the tokenizer's own files say.

`make tokenizers` compares real ones with `transformers`.
"""

import json

import numpy as np
import pytest

from runner.data import JsonLines, TokenizedText, TokenizerFile, TokenRecords
from runner.data.text.record_files import write_token_records
from runner.errors import UserError
from tests.runner.data.text.tiny_tokenizers import (
    around,
    byte_fallback,
    byte_level,
    saved,
)

TEXTS = ["the path", "  then ", "\u00e9\n"]
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
DEEPSEEK = ("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\uff5c>")

# By family: the tokenizer, its tokenizer_config.json, its begin and its end.
FAMILIES = {
    "llama-3.1": (
        lambda: around(byte_level(BOS, EOS, "<|eot_id|>"), f"{BOS} $A"),
        {"bos_token": BOS, "eos_token": "<|eot_id|>"},
        (BOS, EOS),
    ),
    "llama-2": (
        lambda: around(byte_fallback("<unk>", "<s>", "</s>", prefix=True), "<s> $A"),
        {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
        ("<s>", "</s>"),
    ),
    "gemma": (
        lambda: around(byte_fallback("<pad>", "<eos>", "<bos>"), "<bos> $A"),
        {"bos_token": "<bos>", "eos_token": "<end_of_turn>", "add_bos_token": True},
        ("<bos>", "<eos>"),
    ),
    "qwen": (
        lambda: byte_level("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        {"bos_token": None, "eos_token": "<|im_end|>", "add_bos_token": False},
        ("<|endoftext|>", "<|endoftext|>"),
    ),
    "gpt-2": (
        lambda: byte_level("<|endoftext|>"),
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        ("<|endoftext|>", "<|endoftext|>"),
    ),
    "deepseek": (  # its tokenizer.json names neither
        lambda: byte_level(*DEEPSEEK),
        {
            "add_bos_token": True,
            "bos_token": {"__type": "AddedToken", "content": DEEPSEEK[0]},
            "eos_token": {"__type": "AddedToken", "content": DEEPSEEK[1]},
        },
        DEEPSEEK,
    ),
    "an end after the text": (
        lambda: around(byte_level("<s>", "</s>", "[X]"), "<s> $A [X]"),
        {},
        ("<s>", "[X]"),
    ),
}


def text(tmp_path, file, texts=TEXTS, **fields) -> TokenizedText:
    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return TokenizedText(
        documents=JsonLines(files=[str(lines)]),
        tokenizer=TokenizerFile(file),
        sequence_length=64,
        **fields,
    )


def load(source, tmp_path):
    return source.load(cache=str(tmp_path / "cache"))


def documents(dataset) -> tuple[list[list[int]], list[list[int]]]:
    """Inputs and targets of each document of the first row."""
    row = dataset[0]
    masks = [row["segment_ids"] == i + 1 for i in range(row["segment_ids"].max())]
    inputs = [row["tokens"][mask].tolist() for mask in masks]
    return inputs, [row["targets"][mask].tolist() for mask in masks]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_document_is_what_the_tokenizer_makes_of_it(name, tmp_path):
    make, config, (begin, end) = FAMILIES[name]
    dataset = load(text(tmp_path, saved(tmp_path, make(), **config)), tmp_path)
    inputs, targets = documents(dataset)
    tokenizer = make()
    ids = [tokenizer.encode(x, add_special_tokens=False).ids for x in TEXTS]
    begin_id, end_id = map(tokenizer.token_to_id, (begin, end))
    assert inputs == [[begin_id, *x] for x in ids]
    assert targets == [[*x, end_id] for x in ids]
    if tokenizer.encode("a").ids[0] == begin_id:  # else its config says so alone
        with_ends = [tokenizer.encode(x).ids for x in TEXTS]
        assert inputs == [[i for i in x if i != end_id] for x in with_ends]
    described = dataset.describe()
    assert (described["begin"], described["end"]) == (begin, end)


def test_the_data_has_the_last_word(tmp_path):
    file = saved(tmp_path, FAMILIES["llama-3.1"][0]())
    own = load(text(tmp_path, file), tmp_path)
    given = load(text(tmp_path, file, begin=EOS, end="<|eot_id|>"), tmp_path)
    assert given.describe()["begin"] == EOS
    assert given.describe()["end"] == "<|eot_id|>"
    assert len({own.fingerprint, given.fingerprint}) == 2
    began = load(text(tmp_path, file, begin=EOS), tmp_path)
    assert began.fingerprint != own.fingerprint
    with pytest.raises(UserError, match=r"no beginning-of-document token '<s>'"):
        load(text(tmp_path, file, begin="<s>"), tmp_path)
    with pytest.raises(UserError, match=r"no end-of-document token '<\|eod\|>'; did"):
        load(text(tmp_path, file, end="<|eod|>"), tmp_path)


def test_records_of_tokens_begin_alike(tmp_path):
    file = saved(tmp_path, FAMILIES["llama-3.1"][0]())
    packed = load(text(tmp_path, file), tmp_path)
    path = tmp_path / "a.tokens"
    ids = packed.vocabulary.encode_all(TEXTS)
    write_token_records(path, ids, vocabulary=packed.vocabulary)
    records = TokenRecords([str(path)], TokenizerFile(file), sequence_length=64)
    np.testing.assert_array_equal(
        load(records, tmp_path)[0]["tokens"], packed[0]["tokens"]
    )
    other = TokenRecords([str(path)], TokenizerFile(file), 64, begin="<|eot_id|>")
    assert load(other, tmp_path).describe()["begin"] == "<|eot_id|>"


def test_the_generation_config_is_asked_last(tmp_path):
    file = saved(tmp_path, byte_level("[A]", "[B]"))
    with pytest.raises(UserError, match=r"no end-of-document token ''.*\[A\], \[B\]"):
        load(text(tmp_path, file), tmp_path)
    end = byte_level("[A]", "[B]").token_to_id("[B]")
    entries = {"eos_token_id": [end, 1]}
    (tmp_path / "generation_config.json").write_text(json.dumps(entries))
    assert load(text(tmp_path, file), tmp_path).describe()["end"] == "[B]"
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "[A]"}')
    assert load(text(tmp_path, file), tmp_path).describe()["end"] == "[A]"
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UserError, match=r"tokenizer_config\.json is damaged: not JSON"):
        load(text(tmp_path, file), tmp_path)


def test_two_tokens_before_a_text_have_to_be_chosen_from(tmp_path):
    tokenizer = around(byte_level("[gMASK]", "<sop>", "</s>"), "[gMASK] <sop> $A")
    file = saved(tmp_path, tokenizer)
    with pytest.raises(UserError, match=r"begin with 2 tokens \(\[gMASK\], <sop>\)"):
        load(text(tmp_path, file), tmp_path)
    chosen = load(text(tmp_path, file, begin="<sop>"), tmp_path)
    assert chosen.describe()["begin"] == "<sop>"


CHAT = "<|im_start|>user\nthe<|im_end|>\n"


def test_names_of_special_tokens_are_text_unless_tokens_are_asked_for(tmp_path):
    make, config, _ = FAMILIES["qwen"]
    file = saved(tmp_path, make(), **config)
    tokenizer = make()
    start, stop = map(tokenizer.token_to_id, ("<|im_start|>", "<|im_end|>"))
    spelled = load(text(tmp_path, file, [CHAT]), tmp_path)
    (targets,) = documents(spelled)[1]
    assert not {start, stop} & set(targets)
    assert spelled.describe()["special_tokens"] == "text"
    tokens = load(text(tmp_path, file, [CHAT], special_tokens="tokens"), tmp_path)
    (targets,) = documents(tokens)[1]
    assert targets[:-1] == tokenizer.encode(CHAT, add_special_tokens=False).ids
    assert targets[0] == start and targets.count(stop) == 1
    assert tokens.describe()["special_tokens"] == "tokens"
    assert tokens.num_bytes == len(CHAT.encode())
    assert tokens.fingerprint != spelled.fingerprint
    again = load(text(tmp_path, file, [CHAT]), tmp_path)
    assert again.fingerprint == spelled.fingerprint  # of another cached file


def test_ends_that_a_text_writes_itself_are_not_doubled(tmp_path):
    make, config, _ = FAMILIES["llama-3.1"]
    file = saved(tmp_path, make(), **config)
    written = [f"{BOS}the{EOS}", "the", f"the{EOS}", f"{BOS}{BOS}the"]
    source = text(tmp_path, file, written, special_tokens="tokens")
    inputs, targets = documents(load(source, tmp_path))
    assert inputs[0] == inputs[1] == inputs[2] and targets[0] == targets[1]
    assert len(inputs[3]) == len(inputs[0]) + 1
    with pytest.raises(UserError, match="special_tokens is 'token'; did you mean"):
        text(tmp_path, file, special_tokens="token")
