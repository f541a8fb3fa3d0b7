"""A field that is new since a run began is no change while it has its default."""

import fiddle as fdl

from runner import data
from runner.graph import describe, new_fields


def described(**fields) -> str:
    tokenizer = fdl.Config(data.TokenizerFile, file="a", **fields)
    documents = fdl.Config(data.JsonLines, files=["b"])
    return describe.text(
        fdl.Config(data.TokenizedText, documents=documents, tokenizer=tokenizer)
    )


def without(text: str, *paths: str) -> str:
    """The lines as a version wrote them that had no such fields."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.split(": ")[0] not in paths)


def test_a_new_field_counts_once_it_is_set():
    began = without(described(), "tokenizer.end", "documents.field")
    assert new_fields.changes(began, described()) == []
    assert new_fields.changes(began, described(end="</s>")) == [
        "+ tokenizer.end: '</s>'"
    ]


def test_a_new_field_of_the_root_counts_once_it_is_set():
    began = without(described(), "sequence_length")
    assert new_fields.changes(began, described()) == []
    longer = described().replace("sequence_length: 256", "sequence_length: 9")
    assert new_fields.changes(began, longer) == ["+ sequence_length: 9"]


def test_what_is_missing_or_of_another_class_now_is_a_change():
    now = without(described(), "tokenizer.end")
    assert new_fields.changes(described(), now) == ["- tokenizer.end: ''"]
    other = without(described(), "tokenizer.end").replace(
        "runner.data.TokenizerFile", "runner.data.GGUFTokenizer"
    )
    assert len(new_fields.changes(other, described())) == 3
