import math

import numpy as np
import pytest

from runner.data.dataset import Baseline
from runner.data.text import text_baselines
from runner.data.text.packed_text import PackedText, pack
from runner.data.text.text_baselines import Bigram, Unigram, pairs
from runner.data.text.tokens import Tokens

END, A, B, C = range(4)


class Letters:
    """A vocabulary of an end and three letters of one byte."""

    size = 4
    begin = end = END
    digest = "letters"
    token_bytes = np.array([0, 1, 1, 1], np.int32)


def dataset(*documents) -> PackedText:
    return pack(
        Tokens(
            ids=np.concatenate(documents).astype(np.uint16),
            offsets=np.cumsum([0, *map(len, documents)], dtype=np.int64),
            document_bytes=np.array([*map(len, documents)]),
        ),
        vocabulary=Letters(),
        sequence_length=8,
        documents="",
        read=lambda: ["".join("_abc"[i] for i in document) for document in documents],
        description={},
    )


TRAIN = dataset([A, B, A, B], [A, C])


def unigram_of(train: PackedText) -> Unigram:
    return Unigram(train.packing, vocab_size=Letters.size)


def scores(held_out: PackedText) -> dict[str, Baseline]:
    return {row.name: row for row in TRAIN.baselines(held_out)}


def test_pairs_are_the_positions_of_the_packed_rows():
    inputs, targets = pairs(TRAIN.packing)
    rows = TRAIN.rows(np.arange(len(TRAIN)))
    assert inputs.tolist() == rows["tokens"][rows["mask"]].tolist()
    assert targets.tolist() == rows["targets"][rows["mask"]].tolist()
    assert targets.tolist() == [A, B, A, B, END, A, C, END]


def test_unigram_by_hand():
    # c(end, a, b, c) = 2, 3, 2, 1; N + V = 12
    unigram = unigram_of(TRAIN)
    np.testing.assert_allclose(unigram.probabilities, [3 / 12, 4 / 12, 3 / 12, 2 / 12])
    np.testing.assert_allclose(unigram.nats(np.array([A])), [math.log(3)])


def test_bigram_by_hand():
    # end->a 2, a->b 2, a->c 1, b->a 1, b->end 1, c->end 1: n1 = 4, n2 = 2, D = 1/2
    bigram = Bigram(TRAIN.packing, unigram_of(TRAIN))
    assert bigram.discount == 1 / 2
    inputs, targets = np.array([[END, A], [A, B], [A, A], [C, C]]).T
    wanted = [
        (2 - 0.5) / 2 + 0.5 * 1 / 2 * (4 / 12),
        (2 - 0.5) / 3 + 0.5 * 2 / 3 * (3 / 12),
        0.5 * 2 / 3 * (4 / 12),
        0.5 * 1 / 1 * (2 / 12),
    ]
    np.testing.assert_allclose(bigram.probability(inputs, targets), wanted)


@pytest.mark.parametrize("train", [TRAIN, dataset([A, B, A]), dataset([A])])
def test_the_bigram_sums_to_one_after_every_token(train):
    bigram = Bigram(train.packing, unigram_of(train))
    for first in range(4):  # b and c are never seen in some of them
        total = bigram.probability(np.full(4, first), np.arange(4)).sum()
        np.testing.assert_allclose(total, 1.0)


def test_rows_are_in_nats_per_token_and_bits_per_byte():
    held_out = dataset([A, B], [C, C, A])
    rows = scores(held_out)
    unigram = np.log([3, 4, 4, 6, 6, 3, 4])  # a b end c c a end
    assert rows["unigram"].nats_per_token == pytest.approx(unigram.mean())
    assert rows["unigram"].bits_per_byte == pytest.approx(
        unigram.sum() / math.log(2) / 5
    )
    assert list(rows) == ["unigram", "bigram", "gzip", "xz"]
    assert rows["gzip"].nats_per_token is None


def test_compressors_see_the_held_out_text_as_one_string():
    once, repeated = dataset([A, B, C] * 50), dataset(*[[A, B, C] * 50] * 40)
    sizes = [
        {name: row.bits_per_byte or 0.0 for name, row in scores(held_out).items()}
        for held_out in (once, repeated)
    ]
    for name in ("gzip", "xz"):
        assert sizes[1][name] < sizes[0][name] / 10


def test_a_large_text_is_counted_in_part(monkeypatch):
    monkeypatch.setattr(text_baselines, "_MOST_POSITIONS", 5)
    whole = dataset([A, B, A, B], [A, C])
    part = whole.baselines(TRAIN)
    assert part == dataset([A, B, A, B]).baselines(TRAIN)
    monkeypatch.undo()
    assert part != whole.baselines(TRAIN)
    monkeypatch.setattr(text_baselines, "_MOST_POSITIONS", 1)  # one document at least
    assert part == whole.baselines(TRAIN)
