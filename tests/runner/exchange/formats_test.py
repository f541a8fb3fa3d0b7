"""What producers' own code wrote, and what none of them would."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from runner.errors import UserError
from runner.exchange import kinds
from runner.exchange.formats import distillkit_codes
from runner.exchange.formats.scored import BadScores
from runner.files import form, tf_example
from tests.runner.exchange import producers

ANSWERS = Path(__file__).parent / "answers"
CODED = np.load(ANSWERS / "distillkit.npz")


def sequences(kind, path):
    return list(kinds.reader(kind)(path).sequences)


@pytest.mark.parametrize("address", ["completion", "v1_completions"])
def test_answers_of_llama_cpp_are_read_as_its_server_gives_them(address):
    """xllamacpp 2026.10.11549, prompts 1; 1 5; 1 5 7; 1 9 of a tiny model."""
    path = ANSWERS / f"llama_cpp_{address}.jsonl"
    growing, other = sequences("llama_cpp", path)
    assert growing.tokens.tolist() == [1, 5, 7] and other.tokens.tolist() == [1, 9]
    assert growing.counts.tolist() == [3, 3, 3] and other.counts.tolist() == [0, 3]
    first = growing.ids[0].tolist(), growing.scores[0]
    assert first[0] == [2, 13, 28]
    np.testing.assert_allclose(first[1], [-0.7985, -0.8933, -3.0702], atol=1e-4)


@pytest.mark.parametrize("name", ["exact", "plain", "deltas"])
def test_distillkits_codes_are_the_numbers_that_it_reads(name):
    """Written and read by its code at a61c2e7: answers/make_distillkit.py."""
    config = json.loads(str(CODED[f"{name}.config"]))
    codes = form.parse(distillkit_codes.Codes, config)
    for row in range(2):
        coded = CODED[f"{name}.scores"][row], CODED[f"{name}.ids"][row]
        ids, scores = codes.entries(*coded)
        np.testing.assert_array_equal(ids, CODED["ids"][row])
        expected = CODED[f"{name}.out"][row]
        atol = 0.0 if name == "exact" else codes.rounding * np.abs(expected).max()
        np.testing.assert_allclose(scores, expected, atol=atol)
        with pytest.raises(ValueError, match=r"the config says|numbers of . bits"):
            codes.entries(coded[0][:, :-1], coded[1])
        with pytest.raises(ValueError, match="12 numbers of 10 bits each"):
            codes.entries(coded[0], coded[1][:, :-1])
    with pytest.raises(ValueError, match="k is 2, of"):
        dataclasses.replace(codes, k=2)


def test_examples_are_the_numbers_that_protobuf_wrote():
    arrays = {
        "inputs": np.array([0, 1, 127, 128, 2**31, -1, 2**62]),
        "top_k_logits": np.array([0.5, -np.inf, 3e38], np.float32),
        "none": np.zeros(0, int),
    }
    message = producers.example(arrays)
    decoded = tf_example.decode(message)
    for name in ("inputs", "top_k_logits"):
        np.testing.assert_array_equal(decoded[name], arrays[name])
    for end in range(1, len(message)):
        try:  # a part of it may be an example of less
            tf_example.decode(message[:end])
        except ValueError as error:
            assert len(str(error).splitlines()) == 1


def line(**fields):
    return lambda path: path.write_text(json.dumps(fields) + "\n")


def maxtext(**features):
    def write(path):
        from array_record.python.array_record_module import ArrayRecordWriter

        path.mkdir()
        writer = ArrayRecordWriter(str(path / "a.array_record"), "group_size:1")
        arrays = {name: np.array(x) for name, x in features.items()}
        writer.write(producers.example(arrays) if features else b"\x0a\xff")
        writer.close()

    return write


def parquet(config="", **columns):
    def write(path):
        import pyarrow
        import pyarrow.parquet

        path.mkdir()
        table = pyarrow.table({name: [x] for name, x in columns.items()})
        pyarrow.parquet.write_table(table, path / "a.parquet")
        if config:
            (path / "compression_config.yaml").write_text(config)

    return write


TRL = {"sequences": [[1, 2, 3]], "prompt_lengths": [1]}
BYTES = {"input_ids": [1, 2], "compressed_logprobs": [[1]], "bytepacked_indices": [[1]]}
MALFORMED = [
    ("llama_cpp", line(prompt="a text", completion_probabilities=[]), "no ids of its"),
    ("llama_cpp", line(prompt=[1]), "holds no scores; was n_probs=k asked?"),
    (
        "llama_cpp",
        line(prompt=[1], completion_probabilities=[{"top_probs": []}]),
        "ask with post_sampling_probs=false",
    ),
    (
        "llama_cpp",
        line(prompt=[1], completion_probabilities=[{"top_logprobs": [{"id": 1}]}]),
        'top_logprobs must hold {"id": ..., "logprob": ...}',
    ),
    ("sglang", line(text=""), "it has no 'meta_info'"),
    ("sglang", line(meta_info={}), "logprob_start_len=0"),
    (
        "sglang",
        line(
            meta_info={"input_token_logprobs": [[0, 1]], "input_top_logprobs": [1, 2]}
        ),
        "input_top_logprobs has 2 places, input_token_logprobs 1",
    ),
    (
        "sglang",
        line(
            meta_info={
                "input_token_logprobs": [[0, 1], [0, 1]],
                "input_top_logprobs": [None, [3]],
            }
        ),
        "logprobs must hold null or [logprob, id, text]",
    ),
    ("trl", line(logprobs=[]), "it has no 'sequences'"),
    ("trl", line(**TRL), "holds neither logprobs nor logprobs_b64"),
    (
        "trl",
        line(**TRL, logprobs=[[[-1.0]]], logprob_token_ids=[[[1]]]),
        "3 tokens, a prompt of 1 and 1 scores",
    ),
    (
        "trl",
        line(**TRL, logprobs=[[[-1.0], [-1.0]]], logprob_token_ids=[[[1], []]]),
        "not as many ids as scores",
    ),
    (
        "trl",
        line(**TRL, logprobs_b64="AAAA", token_ids_b64="AAAA", shape=[1, 2, 1]),
        "are no arrays of shape [1, 2, 1]",
    ),
    ("axolotl", line(messages=[]), "has no input_ids; write them with preprocess"),
    (
        "axolotl",
        line(input_ids=[1, 2], logprobs=[[{"token": "the", "logprob": -1.0}]]),
        "wants target_logprobs and target_token_ids of one shape",
    ),
    (
        "axolotl",
        line(input_ids=[1], target_logprobs=[[-1.0]], target_token_ids=[[1, 2]]),
        "wants target_logprobs and target_token_ids of one shape",
    ),
    ("distillkit", parquet(input_ids=[1]), "has no columns compressed_logprobs and"),
    ("distillkit", parquet(token_ids=[[1]]), "has no column input_ids"),
    ("distillkit", parquet(**BYTES), "there is no compression_config.yaml beside it"),
    ("distillkit", parquet("d: 9\n", **BYTES), "yaml: it has no 'k'"),
    (
        "distillkit",
        parquet("d: 9\nk: 1\nexact_k: 1\nresidual_bins: []\n", **BYTES),
        "1 bytes of scores, the config says more",
    ),
    ("distillkit", lambda path: path.mkdir(), "holds no file *.parquet or *.arrow"),
    ("maxtext", maxtext(), "no tf.train.Example"),
    ("maxtext", maxtext(tokens=[1]), "record 0: has no inputs"),
    (
        "maxtext",
        maxtext(inputs=[1, 2], top_k_logits=[0.5], top_k_indices=[1]),
        "1 logits and 1 ids of 2 tokens",
    ),
]


@pytest.mark.parametrize("case", range(len(MALFORMED)))
def test_what_no_producer_writes_is_refused_in_a_line(case, tmp_path):
    kind, write, message = MALFORMED[case]
    write(tmp_path / "source")
    with pytest.raises((BadScores, UserError)) as refusal:
        sequences(kind, tmp_path / "source")
    text = str(refusal.value)
    assert message in text and str(tmp_path) in text
    assert len(text.splitlines()) == 1


def test_plain_entries_of_distillkit_are_read_without_a_config(tmp_path):
    parquet(
        input_ids=[1, 2, 3],
        token_ids=[[4, 5], [6, 7]],
        top_values=[[-0.5, -1.5], [-0.25, -2.0]],
    )(tmp_path / "source")
    (scored,) = sequences("distillkit", tmp_path / "source")
    assert scored.ids.tolist() == [[4, 5], [6, 7]]
    assert scored.scores.tolist() == [[-0.5, -1.5], [-0.25, -2.0]]
