"""One tokenizer is one, whatever file it is in; another is named by its first ids."""

import dataclasses
import json

import gguf
import pytest
from tokenizers import AddedToken

from runner.data import GGUFTokenizer, TokenizerFile, TokenRecords
from runner.data.text.record_files import write_token_records
from runner.data.text.token_identity import differences
from runner.data.text.vocabulary import vocabulary
from runner.errors import UserError
from runner.weights import identity
from runner.weights.run import RunWeights
from tests.runner.data.text.tiny_tokenizers import byte_level, saved

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLAIN = ("<|fim_prefix|>", "<think>")  # added and not special, as of Qwen
PADDED = 300


def qwen():
    tokenizer = byte_level(*SPECIAL)
    tokenizer.add_tokens([AddedToken(name, special=False) for name in PLAIN])
    return tokenizer


def converted(folder, tokenizer, *, padding=gguf.TokenType.UNUSED, size=PADDED) -> str:
    """Write the tokenizer as llama.cpp's converter does (`get_vocab_base`, 0.3.36)."""
    added = tokenizer.get_added_tokens_decoder()
    tokens, kinds = [], []
    for index in range(size):
        token = tokenizer.id_to_token(index)
        tokens.append(f"[PAD{index}]" if token is None else token)
        if token is None:
            kinds.append(padding)
        elif index in added:
            looks_special = token.startswith("<|") and token.endswith("|>")
            control = added[index].special or looks_special
            kinds.append(gguf.TokenType[("USER_DEFINED", "CONTROL")[control]])
        else:
            kinds.append(gguf.TokenType.NORMAL)
    file = folder / "model.gguf"
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return str(file)


@pytest.mark.parametrize("padding", ["UNUSED", "USER_DEFINED", "NORMAL"])
def test_a_converted_file_is_the_tokenizer_it_was_made_from(padding, tmp_path):
    ours = TokenizerFile(saved(tmp_path, qwen())).load()
    file = converted(tmp_path, qwen(), padding=gguf.TokenType[padding])
    theirs = GGUFTokenizer(file).load()
    assert theirs.special != ours.special  # as the converter marks them
    assert differences(theirs, ours) == differences(ours, theirs) == ""
    assert theirs.size == ours.size == 257 + len(SPECIAL) + len(PLAIN)
    identity.compare(theirs, ours, where=file)
    padded = theirs.encode("[PAD280]")
    assert theirs.decode(padded) == "[PAD280]" and len(padded) == 8


def test_records_of_tokens_are_read_with_either_file(tmp_path):
    ours = TokenizerFile(saved(tmp_path, qwen()), end="<|im_end|>")
    path = tmp_path / "a.tokens"
    vocab = ours.load()
    write_token_records(path, vocab.encode_all(["the"]), vocabulary=vocab)
    theirs = GGUFTokenizer(converted(tmp_path, qwen()))
    cache = str(tmp_path / "cache")
    assert len(TokenRecords([str(path)], theirs).load(cache=cache)) == 1
    with pytest.raises(UserError, match="holds tokens of another vocabulary"):
        other = dataclasses.replace(theirs, end="<|endoftext|>")
        TokenRecords([str(path)], other).load(cache=cache)


def test_special_tokens_are_compared_by_name(tmp_path):
    ours = vocabulary(byte_level("<a>", "<b>"), end=257)
    assert ours.digest == vocabulary(byte_level("<a>", "<c>"), end=257).digest
    message = differences(vocabulary(byte_level("<a>", "<c>"), end=257), ours)
    assert message == "token 258 is special '<c>' there, special '<b>' here"
    more = vocabulary(byte_level("<a>", "<b>", "<c>"), end=257)
    assert "token 259 is special '<c>' there, absent here" in differences(more, ours)


DEEPSEEK_END = "<\uff5cend\u2581of\u2581sentence\uff5c>"


def test_an_end_given_for_the_data_is_enough(tmp_path):
    ours = TokenizerFile(saved(tmp_path, byte_level(DEEPSEEK_END)), end=DEEPSEEK_END)
    theirs = TokenizerFile(saved(tmp_path / "teacher", byte_level(DEEPSEEK_END)))
    identity.compare(theirs.load(), ours.load(), where="")
    assert ours.load().end == 257
    with pytest.raises(UserError, match="no end-of-document token"):
        _ = theirs.load().end


def test_a_students_own_tokenizer_needs_no_end(tmp_path):
    """What a run saves beside its checkpoints names no end."""
    data = vocabulary(byte_level(DEEPSEEK_END), end=257)
    for name, content in data.files().items():
        (tmp_path / name).write_text(content)
    described = {"train_data": {"vocabulary": data.describe()}}
    (tmp_path / "data.json").write_text(json.dumps(described))
    run = RunWeights.__new__(RunWeights)
    run._path = tmp_path
    run.check_vocabulary(data, cache="")
    other = vocabulary(byte_level("<|another|>"), end=257)
    assert other.digest == data.digest
    with pytest.raises(UserError, match="another tokenizer than the data's"):
        run.check_vocabulary(other, cache="")
