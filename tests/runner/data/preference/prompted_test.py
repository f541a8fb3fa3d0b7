import dataclasses
import json

import numpy as np
import pytest

import losses
from runner.data import (
    Continuations,
    JsonLines,
    JudgedCompletions,
    JudgedRecords,
    PairRecords,
    Part,
    PreferencePairs,
    TextFiles,
)
from runner.errors import UserError

PAIRS = [
    {
        "prompt": "the cat",
        "chosen": " sat on the mat",
        "rejected": " on the dog, on it",
    },
    {"prompt": "", "chosen": "the dog", "rejected": ""},
    {"prompt": "the mat, the cat, the log" * 9, "chosen": "x" * 90, "rejected": "yes"},
]


@pytest.fixture
def pairs(source, tmp_path):
    """Three pairs, over the tokenizer of the other tests."""
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, PAIRS)))
    records = JsonLines(files=[str(path)])
    return PreferencePairs(
        examples=PairRecords(records=records),
        tokenizer=source.tokenizer,
        sequence_length=64,
    )


def sequences(rows, row):
    """Inputs, targets and mask of both halves, padding left out."""
    for segment in (1, 2):
        inside = rows["segment_ids"][row] == segment
        np.testing.assert_array_equal(
            rows["positions"][row][inside], np.arange(inside.sum())
        )
        yield tuple(rows[n][row][inside] for n in ("tokens", "targets", "mask"))


def test_both_completions_follow_the_prompt_in_one_row(pairs, cache):
    dataset = pairs.load(cache=cache)
    rows, vocabulary = dataset.rows(np.arange(2)), dataset.vocabulary
    for row, pair in enumerate(PAIRS[:2]):
        completions = (pair["chosen"], pair["rejected"])
        both = zip(sequences(rows, row), completions, strict=True)
        for (tokens, targets, mask), completion in both:
            prompt = [vocabulary.begin, *vocabulary.encode(pair["prompt"])]
            whole = [*prompt, *vocabulary.encode(completion), vocabulary.end]
            assert tokens.tolist() == whole[:-1] and targets.tolist() == whole[1:]
            assert targets[mask].tolist() == whole[len(prompt) :]
    assert losses.pair_mask(rows).sum() == 2


def test_a_long_pair_loses_the_start_of_the_prompt_then_the_ends(pairs, cache):
    dataset = pairs.load(cache=cache)
    vocabulary = dataset.vocabulary
    chosen, rejected = sequences(dataset.rows(np.array([2])), 0)
    prompt = vocabulary.encode(PAIRS[2]["prompt"])
    kept = [vocabulary.begin, *prompt[-15:]]  # a quarter of the row
    for tokens, targets, mask in (chosen, rejected):
        assert tokens[:16].tolist() == kept
        assert mask.tolist() == [False] * 15 + [True] * (len(targets) - 15)
    assert len(chosen[0]) == 32 and chosen[1][-1] != vocabulary.end
    assert rejected[1][-1] == vocabulary.end
    assert dataset.describe()["cut"] == 1


def test_the_description_counts_equal_completions(pairs, tmp_path, cache):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n' * 3)
    described = pairs.load(cache=cache).describe()
    assert described["equal"] == described["rows"] == 3


def test_the_fingerprint_follows_what_changes_a_row(pairs, cache):
    def fingerprint(**changes):
        return dataclasses.replace(pairs, **changes).load(cache=cache).fingerprint

    swapped = PairRecords(pairs.examples.records, chosen="rejected", rejected="chosen")
    marks = {
        fingerprint(),
        fingerprint(sequence_length=62),
        fingerprint(examples=swapped),
        Part(pairs, 2).load(cache=cache).fingerprint,
    }
    assert len(marks) == 4 and fingerprint() in marks


def test_judged_completions_have_that_of_the_next_row_beside_them(
    source, tmp_path, cache
):
    path = tmp_path / "judged.jsonl"
    entries = [
        {"prompt": p, "completion": c, "label": label}
        for p, c, label in [
            ("the", " cat", True),
            ("a", " dog", False),
            ("x", "y", True),
        ]
    ]
    path.write_text("\n".join(map(json.dumps, entries)))
    data = JudgedCompletions(
        examples=JudgedRecords(records=JsonLines(files=[str(path)])),
        tokenizer=source.tokenizer,
        sequence_length=32,
    )
    dataset = data.load(cache=cache)
    rows, encode = dataset.rows(np.arange(3)), dataset.vocabulary.encode
    np.testing.assert_array_equal(rows["desirable"], [True, False, True])
    for row in range(3):
        texts = [entries[(row + i) % 3]["completion"] for i in (0, 1)]
        both = zip(sequences(rows, row), texts, strict=True)
        for (tokens, targets, mask), text in both:
            prompt = encode(entries[row]["prompt"])
            assert tokens[1 : len(prompt) + 1].tolist() == list(prompt)
            assert targets[mask].tolist() == [*encode(text), dataset.vocabulary.end]


def test_documents_make_pairs_of_what_follows_and_what_came_before(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"a{i}\n" for i in range(7)))
    (tmp_path / "b.txt").write_text("b0\nb1\nb2")
    documents = TextFiles(files=[str(tmp_path)])
    examples = list(Continuations(documents, prompt_lines=2, completion_lines=1))
    assert [(x.prompt, x.completions) for x in examples] == [
        ("a3\na4\n", ("a5\n", "a2\n")),
        ("b0\nb1\n", ("b2", "a5\n")),
    ]


def test_what_is_no_pair_is_refused(pairs, source, tmp_path, cache):
    path = tmp_path / "pairs.jsonl"
    for line, message in (
        ('{"prompt": "a", "choosen": "b", "rejected": "c"}', "no field 'chosen'"),
        ('{"prompt": "a", "chosen": ["b"], "rejected": "c"}', "must be a string"),
        ("\n", "holds no examples at all"),
    ):
        path.write_text(line)
        with pytest.raises(UserError, match=message):
            pairs.load(cache=cache)
    for length in (2, 33):
        with pytest.raises(UserError, match="must be even and at least 4"):
            dataclasses.replace(pairs, sequence_length=length)
    path.write_text('{"prompt": "a", "completion": "b", "label": 1}')
    judged = JudgedRecords(records=pairs.examples.records)
    data = JudgedCompletions(examples=judged, tokenizer=source.tokenizer)
    with pytest.raises(UserError, match="'label' must be true or false, got 1"):
        data.load(cache=cache)
    path.write_text('{"prompt": "a", "completion": "b", "label": true}')
    wrong = dataclasses.replace(pairs, examples=judged)
    with pytest.raises(UserError, match=r"wants examples of 2 completions, .* has 1"):
        wrong.load(cache=cache)
