import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from runner.data import ByteBPE, TextFiles, TokenizerFile
from runner.errors import UserError

TRAIN = """
import sys
from runner.data import ByteBPE, PythonLibrary
documents = PythonLibrary(split="held_out")
print(ByteBPE(documents=documents, vocab_size=2000).load(cache=sys.argv[1]).digest)
"""


def byte_bpe(folder, size=300):
    return ByteBPE(documents=TextFiles(files=[str(folder)]), vocab_size=size)


def saved(tmp_path, model, *, special=("<s>", "</s>"), byte_level=True):
    """A tokenizer.json of an untrained tokenizer."""
    tokenizer = tokenizers.Tokenizer(model)
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=[], initial_alphabet=alphabet)
        tokenizer.train_from_iterator(["the cat sat on the mat"], trainer)
    tokenizer.add_special_tokens(list(special))
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_training_is_the_same_in_every_process_and_number_of_threads(tmp_path):
    digests = set()
    for run, threads in enumerate(["1", "2", "2"]):
        output = subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path / str(run))],
            env={**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            check=True,
            capture_output=True,
            text=True,
        )
        digests.add(output.stdout)
    assert len(digests) == 1


def test_a_trained_tokenizer_is_read_from_the_cache(folder, cache, monkeypatch):
    first = byte_bpe(folder).load(cache=cache)
    monkeypatch.setattr(ByteBPE, "_train", None)
    assert byte_bpe(folder).load(cache=cache).digest == first.digest
    with pytest.raises(TypeError):  # another size is another tokenizer
        byte_bpe(folder, 301).load(cache=cache)
    (folder / "a.txt").write_text("another text")
    with pytest.raises(TypeError):
        byte_bpe(folder).load(cache=cache)


def test_a_damaged_cache_is_trained_again(folder, cache):
    first = byte_bpe(folder).load(cache=cache)
    (file,) = Path(cache, "tokenizers").iterdir()
    content = file.read_bytes()
    file.write_bytes(content.replace(b"merges", b"mergez"))
    assert byte_bpe(folder).load(cache=cache).digest == first.digest
    assert file.read_bytes() == content


def test_a_vocabulary_has_the_size_asked_for_and_ends_with_id_0(folder, cache):
    vocabulary = byte_bpe(folder, 280).load(cache=cache)
    assert (vocabulary.size, vocabulary.end) == (280, 0)
    assert vocabulary.special == {0}


def test_a_vocabulary_below_the_bytes_is_refused(folder):
    with pytest.raises(UserError, match=r"at least 257 .* got 256"):
        byte_bpe(folder, 256)


def test_a_vocabulary_larger_than_the_text_gives_is_refused(folder, cache):
    with pytest.raises(UserError, match=r"vocab_size is 5000, but .* give only \d+"):
        byte_bpe(folder, 5000).load(cache=cache)


def test_check_finds_missing_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        byte_bpe(tmp_path / "none").check()
    with pytest.raises(UserError, match=r"no such tokenizer file: none.json"):
        TokenizerFile(file="none.json").check()


def test_a_tokenizer_file_is_loaded_with_its_usual_end(tmp_path):
    path = saved(tmp_path, models.BPE())
    vocabulary = TokenizerFile(file=str(path)).load()
    assert vocabulary.tokenizer.id_to_token(vocabulary.end) == "</s>"
    other = TokenizerFile(file=str(path), end="<s>").load()
    assert other.tokenizer.id_to_token(other.end) == "<s>"
    assert other.digest != vocabulary.digest


@pytest.mark.parametrize(
    ("special", "end", "message"),
    [
        (
            ["<s>", "</s>"],
            "</t>",
            "no end-of-document token '</t>'; did you mean '</s>'?",
        ),
        (
            ["[A]", "[B]"],
            "",
            "no end-of-document token '': name one, end=...; one of: [A], [B]",
        ),
        (["[A]"], "[E]", "no end-of-document token '[E]'; did you mean '[A]'?"),
    ],
)
def test_an_end_that_is_not_there_is_refused(tmp_path, special, end, message):
    path = saved(tmp_path, models.BPE(), special=special)
    with pytest.raises(UserError) as error:
        _ = TokenizerFile(file=str(path), end=end).load().end
    assert message in str(error.value)


def test_what_is_no_tokenizer_is_refused_in_two_lines(tmp_path):
    path = tmp_path / "tokenizer.json"
    for text in ("", "{", json.dumps({"model": 3}), "\x00"):
        path.write_text(text)
        with pytest.raises(
            UserError, match=r"tokenizer.json is not a tokenizer.json: ."
        ):
            TokenizerFile(file=str(path)).load()


def test_word_pieces_are_refused_because_their_bytes_are_unknown(tmp_path):
    model = models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    path = saved(tmp_path, model, byte_level=False, special=["[CLS]", "[SEP]"])
    for end in ("", "[SEP]", "</s>"):  # first of all, for no end would mend it
        with pytest.raises(UserError, match=r"neither byte-level nor byte-fallback"):
            TokenizerFile(file=str(path), end=end).load()


def test_a_model_file_is_no_tokenizer_file_and_says_what_reads_it(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(UserError, match=r"it is a model in GGUF; data\.GGUFTokenizer"):
        TokenizerFile(file=str(path)).load()
