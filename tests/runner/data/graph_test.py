import subprocess
import sys

import fiddle as fdl
import pytest
from fiddle.experimental.auto_config import auto_config

from runner import data
from runner.errors import UserError
from runner.graph import to_json


@auto_config
def both():
    return data.python_library_text(sequence_length=128)


def training():
    return both.as_buildable()[0]


def test_the_embedded_corpus_becomes_nodes_that_can_be_overridden():
    cfg = both.as_buildable()
    assert fdl.build(cfg) == both() == data.python_library_text(sequence_length=128)
    cfg[0].sequence_length = 64
    cfg[0].tokenizer.vocab_size = 512
    built = fdl.build(cfg[0])
    assert (built.sequence_length, built.tokenizer.vocab_size) == (64, 512)
    assert built.documents == data.PythonLibrary(split="train")


def test_an_override_of_a_shared_tokenizer_reaches_both_splits():
    train, held_out = both.as_buildable()
    train.tokenizer.vocab_size = 300
    assert fdl.build(held_out).tokenizer.vocab_size == 300


def test_a_graph_of_data_is_saved_and_read_back():
    files = {"files": ["a.txt"]}
    for source in (
        training(),
        fdl.Config(
            data.TokenizedText,
            documents=fdl.Config(data.JsonLines, field="body", **files),
            tokenizer=fdl.Config(data.TokenizerFile, file="t.json"),
        ),
        fdl.Config(
            data.TokenRecords,
            tokenizer=fdl.Config(data.TokenizerFile, file="t.json"),
            **files,
        ),
    ):
        assert to_json.from_json(to_json.to_json(source), "test") == source


def test_a_mistake_in_a_node_stays_a_user_error_when_built():
    cfg = training()
    cfg.documents.split = "trian"
    with pytest.raises(UserError, match="did you mean 'train'"):
        fdl.build(cfg)


def test_nodes_are_imported_without_jax_grain_and_tokenizers():
    script = (
        "import sys\n"
        "from runner import data\n"
        "data.TokenizedText, data.ByteBPE, data.PythonLibrary, data.TokenRecords\n"
        "heavy = {'jax', 'grain', 'tokenizers', 'array_record', 'tensorflow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_is_there():
    for name in vars(data)["__all__"]:
        assert getattr(data, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vars(data)["__getattr__"]("nothing")
