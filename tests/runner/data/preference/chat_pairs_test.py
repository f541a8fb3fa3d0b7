import json

import numpy as np
import pytest

import losses
from runner.data import ChatPairs, JsonLines, TokenizerFile
from runner.errors import UserError
from tests.runner.data.chat.templates import CHATML, said
from tests.runner.data.text import tiny_tokenizers as tiny

START, END = "<|im_start|>", "<|im_end|>"
SYSTEM = {"role": "system", "content": "Be brief."}


def reply(text):
    return [{"role": "assistant", "content": text}]


PROMPT = said("Hi", "Hello", "How?")
PAIRS = [
    {"prompt": PROMPT, "chosen": reply("So."), "rejected": reply("Like this 🙂")},
    {"chosen": [*PROMPT, *reply("So.")], "rejected": [*PROMPT, *reply("No")]},
    {"prompt": "What?", "chosen": "That.", "rejected": "This."},
]


@pytest.fixture
def pairs(tmp_path):
    def loaded(records=PAIRS, length=256, **fields):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        tokenizer = tiny.byte_level(START, END, "<|endoftext|>")
        file = tiny.saved(tmp_path / "tokenizer", tokenizer, chat_template=CHATML)
        source = ChatPairs(
            records=JsonLines(files=[str(path)]),
            tokenizer=TokenizerFile(file),
            sequence_length=length,
            **fields,
        )
        source.check()
        return source.load(cache=str(tmp_path / "cache"))

    return loaded


def texts(rows, row, side, *, learned=False):
    """What stands in a half of a row, or what counts there."""
    arrays = rows[row]
    inside = arrays["segment_ids"] == side
    if learned:
        ids = arrays["targets"][inside & arrays["mask"]]
    else:
        ids = [arrays["tokens"][inside][0], *arrays["targets"][inside]]
    return rows.vocabulary.tokenizer.decode(list(ids), skip_special_tokens=False)


def written(messages):
    turns = (f"{START}{x['role']}\n{x['content']}{END}\n" for x in messages)
    return "".join(turns)


def test_both_sides_are_what_the_template_writes_and_replies_count(pairs):
    rows = pairs()
    for number, pair in enumerate(PAIRS[:2]):
        for side, name in ((1, "chosen"), (2, "rejected")):
            whole = [*pair.get("prompt", []), *pair[name]]
            assert texts(rows, number, side) == written(whole)
            answer = pair[name][-1]["content"]
            assert texts(rows, number, side, learned=True) == f"{answer}{END}"
    assert texts(rows, 2, 2, learned=True) == f"This.{END}"
    assert losses.pair_mask(rows.rows(np.arange(3))).sum() == 3
    halves = rows[0]["segment_ids"]
    assert set(halves[:128]) == {0, 1} and set(halves[128:]) == {0, 2}
    positions = rows[0]["positions"][128:]
    assert positions[:3].tolist() == [0, 1, 2]


def test_a_long_pair_loses_its_first_turns_whole_after_the_system(pairs):
    prompt = [SYSTEM, *said("first " * 9, "one", "second", "two", "third")]
    pair = {"prompt": prompt, "chosen": reply("yes"), "rejected": reply("no")}
    lengths = {}
    for kept in (prompt, [SYSTEM, *prompt[3:]], [SYSTEM, *prompt[5:]]):
        whole = pairs([{**pair, "prompt": kept}], length=1000)
        lengths[len(kept)] = int((whole[0]["segment_ids"] == 1).sum())
    for kept, length in lengths.items():
        rows = pairs([pair, PAIRS[2]], length=2 * length)
        expected = [SYSTEM, *prompt[len(prompt) - kept + 1 :], *reply("yes")]
        assert texts(rows, 0, 1) == written(expected)
        assert rows.describe()["shortened"] == (kept < len(prompt))
    assert any("1 of 2 pairs are too long" in line for line in rows.cautions)
    rows = pairs([pair, PAIRS[2]], length=2 * lengths[2] - 2)
    assert (len(rows), rows.describe()["left_out"]) == (1, 1)
    assert "1 of 2 pairs do not fit into half a row" in rows.cautions[0]


def test_the_fingerprint_follows_what_changes_a_row(pairs):
    swapped = [{**p, "chosen": p["rejected"], "rejected": p["chosen"]} for p in PAIRS]
    marks = {
        pairs().fingerprint,
        pairs(swapped).fingerprint,
        pairs(length=254).fingerprint,
        pairs(template="plain").fingerprint,
        pairs().part(2).fingerprint,
    }
    assert len(marks) == 5 and pairs().fingerprint in marks


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "a", "choosen": "b", "rejected": "c"}, "1: no field 'chosen'"),
        (
            {"prompt": PROMPT, "chosen": said("a"), "rejected": reply("b")},
            "'chosen' has no reply of the assistant after the prompt of 3 messages",
        ),
        ({"chosen": PROMPT, "rejected": PROMPT}, "'chosen' has no reply"),
        ({"prompt": 3, "chosen": "b", "rejected": "c"}, "must be a list of messages"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line(pairs, record, message):
    with pytest.raises(UserError, match=message) as error:
        pairs([record])
    assert len(str(error.value).splitlines()) == 1


def test_lengths_and_empty_data_are_refused(pairs):
    for length in (2, 33):
        with pytest.raises(UserError, match="must be even and at least 4"):
            pairs(length=length)
    with pytest.raises(UserError, match="holds no pairs at all"):
        pairs([])
    with pytest.raises(UserError, match="none of 3 pairs fits into sequence_length=8"):
        pairs(length=8)
