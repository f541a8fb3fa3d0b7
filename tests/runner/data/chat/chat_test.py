import dataclasses
import json

import numpy as np
import pytest

import losses
from runner.data import ByteBPE, Chat, JsonLines, TextFiles, TokenizerFile
from runner.errors import UserError
from tests.runner.data.chat.templates import CHATML, INST, said
from tests.runner.data.text import tiny_tokenizers as tiny

START, END, BOS, EOS = "<|im_start|>", "<|im_end|>", "<s>", "</s>"
CHATS = [
    {"messages": said("Hi", "Hello 🙂")},
    {"messages": said("a", "b", "c", "d")},
    {"prompt": "What?", "completion": "That."},
]


@pytest.fixture
def load(tmp_path):
    """Chats of records, of a tokenizer with this template."""

    def loaded(records=CHATS, template=CHATML, length=128, **fields):
        path = tmp_path / "chats.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        tokenizer = tiny.byte_level(START, END, BOS, EOS, "<|endoftext|>")
        tokenizer = tiny.around(tokenizer, f"{BOS} $A")
        config = {"chat_template": template, "bos_token": BOS, "eos_token": EOS}
        file = tiny.saved(tmp_path / "tokenizer", tokenizer, **config)
        source = Chat(
            records=JsonLines(files=[str(path)]),
            tokenizer=TokenizerFile(file),
            sequence_length=length,
            **fields,
        )
        source.check()
        return source.load(cache=str(tmp_path / "cache"))

    return loaded


def texts(rows, array, where):
    """The text of the ids of each segment of all rows, special tokens named."""
    found = []
    for row in range(len(rows)):
        arrays = rows[row]
        for segment in range(1, arrays["segment_ids"].max() + 1):
            chosen = (arrays["segment_ids"] == segment) & where(arrays)
            ids = arrays[array][chosen].tolist()
            found.append(
                rows.vocabulary.tokenizer.decode(ids, skip_special_tokens=False)
            )
    return found


def test_exactly_the_replies_and_the_ends_of_their_turns_count(load):
    learned = texts(load(), "targets", lambda row: row["mask"])
    assert sorted(learned) == [f"Hello 🙂{END}", f"That.{END}", f"b{END}d{END}"]


def test_a_conversation_is_what_its_template_writes(load):
    everything = texts(load(), "tokens", lambda row: row["segment_ids"] > 0)
    whole = f"{START}user\nHi{END}\n{START}assistant\nHello 🙂{END}"
    assert everything[0] == whole  # but for the last id, which is a target alone


def test_a_beginning_stands_once_where_the_template_writes_it(load):
    rows = load([CHATS[0]], template=INST)
    begin = rows.vocabulary.tokenizer.token_to_id(BOS)
    tokens, real = rows[0]["tokens"], rows[0]["segment_ids"] > 0
    assert tokens[0] == begin and (tokens[real] == begin).sum() == 1
    # ... and not at all where it writes none, whatever the tokenizer says of texts.
    assert begin not in load([CHATS[0]])[0]["tokens"]


def test_names_of_special_tokens_are_those_tokens(load):
    rows = load()
    start = rows.vocabulary.tokenizer.token_to_id(START)
    assert rows[0]["tokens"][0] == start


def test_the_count_of_a_batch_is_that_of_the_replies(load):
    rows = load()
    batch = rows.rows(np.arange(len(rows)))
    counted = int(np.asarray(losses.target_mask(batch)).sum())
    assert counted == rows.describe()["learned_tokens"] == batch["mask"].sum()
    assert counted == len("Hello ") + 4 + len("That.") + len("bd") + 4  # bytes, ends


def test_conversations_are_whole_and_apart_in_rows(load):
    rows = load(CHATS * 5, length=80)
    batch = rows.rows(np.arange(len(rows)))
    conversations = sum(int(row.max()) for row in batch["segment_ids"])
    assert conversations == 15
    begins = batch["positions"] == 0
    start = rows.vocabulary.tokenizer.token_to_id(START)
    real = batch["segment_ids"] > 0
    assert (batch["tokens"][begins & real] == start).all()
    same = (batch["segment_ids"][:, 1:] == batch["segment_ids"][:, :-1]) & real[:, 1:]
    nexts = batch["tokens"][:, 1:] == batch["targets"][:, :-1]
    assert nexts[same].all()
    assert not batch["mask"][~real].any()


def test_a_conversation_that_is_too_long_loses_whole_turns(load):
    whole = load(length=128)
    (number,) = [i for i in range(3) if whole.conversation(i)[1].sum() == len("bd") + 2]
    longest = len(whole.conversation(number)[0]) - 1
    assert load([CHATS[1]], length=longest).cautions == ()
    short = load([CHATS[1], CHATS[0]], length=longest - 1)
    learned = texts(short, "targets", lambda row: row["mask"])
    assert sorted(learned) == [f"Hello 🙂{END}", f"b{END}"]
    (line,) = short.cautions
    assert line.startswith("1 of 2 conversations are too long")
    assert (short.describe()["shortened"], short.describe()["left_out"]) == (1, 0)


def test_what_has_no_reply_that_fits_is_left_out_and_said(load):
    silent = {"messages": said("only a question")}
    long = {"messages": said("x" * 500, "y")}
    rows = load([CHATS[0], silent, long], length=60)
    assert rows.describe()["left_out"] == 2
    assert rows.cautions == (
        "2 of 3 conversations have no reply that fits into a row of 60, and are "
        "left out",
    )
    with pytest.raises(UserError, match="none of 2 conversations has a reply that fit"):
        load([silent, long], length=60)


def test_the_fingerprint_is_of_all_that_changes_a_row(load):
    other = json.loads(json.dumps(CHATS).replace("That.", "This."))
    weightless = json.loads(json.dumps(CHATS))
    weightless[1]["messages"][1]["weight"] = 0
    prints = [
        load().fingerprint,
        load(other).fingerprint,
        load(weightless).fingerprint,
        load(length=64).fingerprint,
        load(template=CHATML + " ").fingerprint,
        load(variables={"bos_token": "<x>"}).fingerprint,
        load(date="2025-01-01").fingerprint,
        load().part(1).fingerprint if len(load()) > 1 else "one",
    ]
    assert len(set(prints)) == len(prints)
    assert load().fingerprint == prints[0]


def test_the_cache_gives_the_same_rows(load, monkeypatch):
    first = load()[0]
    monkeypatch.setattr("runner.data.chat.encoding.Encoder.encode_all", None)
    for name, array in load()[0].items():
        np.testing.assert_array_equal(array, first[name])


def test_held_out_conversations_that_are_trained_on_are_named(load):
    repeats = load().repeats(load([CHATS[2], {"messages": said("new", "er")}]))
    assert (repeats.count, repeats.total, repeats.unit) == (1, 2, "conversation")
    assert "What?" in repeats.first


def test_a_refusal_of_the_template_names_the_conversation(load):
    with pytest.raises(UserError) as error:
        load([CHATS[0], {"messages": said("a", "b")[::-1]}], template=INST)
    assert str(error.value).endswith(
        "chats.jsonl:2: the chat template: roles must alternate"
    )


def test_templates_are_taken_by_name_and_from_files(load, tmp_path):
    named = [
        {"name": "default", "template": CHATML},
        {"name": "loud", "template": CHATML.upper().replace("MESSAGE", "message")},
    ]
    load()
    source = Chat(
        JsonLines([str(tmp_path / "chats.jsonl")]),
        TokenizerFile(str(tmp_path / "tokenizer" / "tokenizer.json")),
    )
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": named}))
    with pytest.raises(UserError, match="no such chat template: lout; did you mean"):
        dataclasses.replace(source, template="lout").check()
    dataclasses.replace(source, template="loud").check()
    file = tmp_path / "own.jinja"
    file.write_text(CHATML + "!")
    dataclasses.replace(source, template=str(file)).check()
    # A file beside the tokenizer comes before its config, as in transformers.
    (tmp_path / "tokenizer" / "chat_template.jinja").write_text("{{ beside }}")
    assert source.tokenizer.chat_files().templates["default"] == "{{ beside }}"


def test_a_tokenizer_without_a_template_says_what_to_give(tmp_path, load):
    (tmp_path / "a.txt").write_text("some text " * 50)
    tokenizer = ByteBPE(TextFiles([str(tmp_path / "a.txt")]), vocab_size=260)
    load()
    source = Chat(JsonLines([str(tmp_path / "chats.jsonl")]), tokenizer)
    with pytest.raises(UserError, match="no chat template; give the file of one"):
        source.check()
    plain = dataclasses.replace(source, template="plain")
    plain.check()
    rows = plain.load(cache=str(tmp_path / "cache"))
    learned = texts(rows, "targets", lambda row: row["mask"])
    assert " That.<|endoftext|>" in learned
