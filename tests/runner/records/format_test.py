import dataclasses
import hashlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runner.errors import UserError
from runner.records.codes import FARTHEST
from runner.records.format import (
    CorruptRecord,
    Layout,
    decode,
    encode,
    encode_batch,
    stack,
)
from runner.records.record import nats
from tests.runner.records import sets

TOP, DRAWN, WHOLE, WIDE = (
    Layout(mode="top_k", entries=5, vocab_size=40, sequence_length=11),
    Layout(mode="sampled", entries=7, vocab_size=40, sequence_length=11),
    Layout(mode="full", entries=40, vocab_size=40, sequence_length=11, temperatures=()),
    Layout(
        mode="top_k",
        entries=5,
        vocab_size=2**20,
        sequence_length=11,
        temperatures=(0.5, 1.0, 4.0),
    ),
)
LAYOUTS = {"top_k": TOP, "sampled": DRAWN, "full": WHOLE, "wide": WIDE}

GOLDEN = {
    1: {
        "top_k": "09b4804ac7deb209",
        "sampled": "10f90ebe3350dea0",
        "full": "7403dff59502eeda",
        "wide": "883a08c0c6a89cb2",
    },
    2: {
        "top_k": "c475b7f50db45ca3",
        "sampled": "8609f539401e119f",
        "full": "fab4954d5a295a2e",
        "wide": "ac1d6be09164baea",
    },
}


def anything(layout, seed, *shape):
    """Entries that a layout takes, for rows of `shape`."""
    random = np.random.default_rng(seed)
    shape = (*shape, layout.sequence_length)
    temperatures = (*shape, len(layout.temperatures))
    return {
        "indices": random.integers(0, layout.vocab_size, (*shape, layout.entries)),
        "logits": -np.sort(random.exponential(4, (*shape, layout.entries))),
        "log_normalizers": random.uniform(0, 15.99, temperatures),
        "log_rests": random.uniform(-111.9, 15.99, temperatures),
        "entropies": random.uniform(0, 15.99, temperatures),
    }


def whole_numbers(low=-(2**31), high=2**31 - 1):
    return arrays.arrays(np.int32, 11, elements=st.integers(low, high))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@hypothesis.given(data=st.data())
def test_any_row_comes_back(layout, data):
    row = {
        "tokens": data.draw(whole_numbers(0, layout.vocab_size - 1)),
        "targets": data.draw(whole_numbers()),
        "segment_ids": data.draw(whole_numbers() | whole_numbers(0, 2)),
        "positions": data.draw(whole_numbers() | whole_numbers(0, 11)),
        "mask": data.draw(arrays.arrays(bool, 11)),
    }
    index = data.draw(st.integers(0, 2**63))
    stored = anything(layout, data.draw(st.integers(0, 99)))
    record = decode(layout, encode(layout, index=index, row=row, stored=stored))
    assert record.index == index
    for name, values in row.items():
        np.testing.assert_array_equal(record.row[name], values)
    if layout.mode == "top_k":
        np.testing.assert_array_equal(record.ids, stored["indices"])
        np.testing.assert_allclose(record.log_rests, stored["log_rests"], atol=2**-17)
    if layout.mode == "sampled":
        np.testing.assert_array_equal(record.ids, np.sort(stored["indices"], -1))
        np.testing.assert_allclose(record.entropies, stored["entropies"], atol=2**-20)
    if layout.mode != "full":
        found = record.log_normalizers
        np.testing.assert_allclose(found, stored["log_normalizers"], atol=2**-20)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_batch_is_its_records(layout):
    random = np.random.default_rng(0)
    rows = sets.rows(random, count=6, length=11, vocab=layout.vocab_size)
    stored = anything(layout, 0, 6)
    batch = encode_batch(layout, indices=range(6), rows=rows, stored=stored)
    for i, record in enumerate(batch):
        row = {name: x[i] for name, x in rows.items()}
        one = {name: x[i] for name, x in stored.items()}
        assert record == encode(layout, index=i, row=row, stored=one)
    assert stack(layout, batch)["index"].tolist() == list(range(6))


@pytest.mark.parametrize("version", [1, 2])
def test_logits_are_within_half_a_step_up_to_where_steps_grow(version):
    layout = dataclasses.replace(TOP, entries=40, format=version)
    stored = anything(layout, 0)
    stored["logits"] = -np.sort(np.random.default_rng(1).uniform(0, 80, (11, 40)), -1)
    stored["logits"][0, 20:] = -np.inf
    row = {name: x[0] for name, x in row_of(layout).items()}
    record = decode(layout, encode(layout, index=0, row=row, stored=stored))
    with np.errstate(invalid="ignore"):
        below = stored["logits"][:, :1] - stored["logits"][:, 1:]
        error = np.abs(-record.logits - below)
    linear = 31.99 if version == 1 else 15.99
    assert error[below < linear].max() <= 2**-12 + 1e-6
    beyond = (below > 32) & (below < np.inf)
    if version == 1:
        assert (record.drops[below > 32] == FARTHEST).all()
    else:
        assert (error[beyond] / below[beyond]).max() <= 2**-12
        assert (record.logits[np.isinf(below)] == -np.inf).all()
    assert (below < linear).any() and beyond.any()


def test_a_whole_vocabulary_is_kept_up_to_a_constant():
    stored = anything(WHOLE, 0)
    logits = np.random.default_rng(0).normal(50, 2, (11, 40)).astype(np.float32)
    row = {name: x[0] for name, x in row_of(WHOLE).items()}
    record = decode(
        WHOLE, encode(WHOLE, index=0, row=row, stored=stored | {"logits": logits})
    )
    back = record.logits
    np.testing.assert_allclose(back, logits - logits.max(-1, keepdims=True), atol=3e-4)
    assert record.ids is None


@pytest.mark.parametrize(
    ("mode", "entries", "vocab", "limit"),
    [
        ("top_k", 64, 4096, 263),
        ("top_k", 64, 65_536, 263),
        ("top_k", 64, 65_537, 327),
        ("top_k", 64, 256_000, 327),
        ("sampled", 12, 65_536, 40),
        ("sampled", 12, 256_000, 40),
    ],
)
def test_bytes_a_token_with_everything(tmp_path, mode, entries, vocab, limit):
    layout = Layout(mode=mode, entries=entries, vocab_size=vocab, sequence_length=256)
    random, count = np.random.default_rng(0), 8
    rows = sets.rows(random, count=count, length=256, vocab=vocab)
    rows["segment_ids"] = np.tile(np.repeat(np.arange(1, 5), 64), (count, 1))
    rows["positions"] = np.tile(np.tile(np.arange(64), 4), (count, 1))
    stored = anything(layout, 0, count)
    records = encode_batch(layout, indices=range(count), rows=rows, stored=stored)
    assert max(map(len, records)) / 256 <= limit
    # The file rounds up to 64 KiB: what more records add to it is what they take.
    sizes = []
    for times in (30, 60):
        many = [
            record
            for start in range(0, times * count, count)
            for record in encode_batch(
                layout, indices=range(start, start + count), rows=rows, stored=stored
            )
        ]
        sets.write_shard(tmp_path, times, 99, many, layout, first=0)
        (file,) = tmp_path.glob(f"records-{times:05}*.array_record")
        sizes.append(file.stat().st_size)
    assert (sizes[1] - sizes[0] - 2**16) / (30 * count * 256) <= limit


def row_of(layout):
    random = np.random.default_rng(0)
    length, vocab = layout.sequence_length, layout.vocab_size
    return sets.rows(random, count=1, length=length, vocab=vocab)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.nan}, "logits are not finite"),
        ({"logits": np.inf}, "logits are not finite"),
        ({"indices": 40}, "ids reach from .* to 40, outside of a vocabulary of 40"),
        ({"indices": -1}, "ids reach from -1"),
        ({"log_normalizers": np.nan}, "log_normalizers are not within 0 and 16"),
        ({"log_normalizers": -0.5}, "log_normalizers are not within"),
    ],
)
def test_what_no_teacher_says_is_not_recorded(change, message):
    stored = anything(TOP, 0, 1)
    for name, value in change.items():
        stored[name][0, 4, 0] = value
    with pytest.raises(UserError, match=f"rows 7 to 7 cannot be recorded: {message}"):
        encode_batch(TOP, indices=[7], rows=row_of(TOP), stored=stored)


def test_a_caller_is_told_what_is_missing_or_out_of_order():
    stored = anything(TOP, 0, 1)
    for change, message in [
        ({"logits": stored["logits"][..., ::-1]}, "best first|below the largest"),
        ({"logits": stored["logits"][..., :3]}, "must have shape"),
    ]:
        with pytest.raises((ValueError, UserError), match=message):
            encode_batch(TOP, indices=[0], rows=row_of(TOP), stored=stored | change)
    del stored["indices"]
    with pytest.raises(ValueError, match="no 'indices' of shape"):
        encode_batch(TOP, indices=[0], rows=row_of(TOP), stored=stored)


def test_every_flipped_bit_is_found():
    row = {name: x[0] for name, x in row_of(TOP).items()}
    record = encode(TOP, index=3, row=row, stored=anything(TOP, 0))
    for bit in range(8 * len(record)):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecord):
            decode(TOP, bytes(damaged))
    for size in range(len(record)):
        with pytest.raises(CorruptRecord):
            decode(TOP, record[:size])


@pytest.mark.parametrize(
    "change",
    [
        {"temperatures": (2.0,)},
        {"origin": "1" * 16},
        {"vocab_size": 41},
        {"entries": 4},
    ],
)
def test_a_record_of_another_layout_is_malformed(change):
    row = {name: x[0] for name, x in row_of(TOP).items()}
    record = encode(TOP, index=3, row=row, stored=anything(TOP, 0))
    with pytest.raises(CorruptRecord, match="belongs to other records"):
        decode(dataclasses.replace(TOP, **change), record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 2**20 + 1}, "2 to 1048576 tokens, this one has 1048577"),
        ({"entries": 41}, "hold 1 to 40 entries a token, not 41"),
        ({"entries": 0}, "not 0"),
        ({"mode": "sampled", "temperatures": ()}, "temperatures of sampled records"),
        ({"temperatures": (1.0, 1.0)}, "each once"),
        ({"temperatures": (-1.0,)}, "must be positive"),
        ({"mode": "best"}, "mode must be one of top_k, sampled, full, got best"),
        ({"mode": "full"}, "hold 40 to 40 entries"),
    ],
)
def test_what_a_record_cannot_hold_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TOP, **change)


@pytest.mark.parametrize("version", GOLDEN)
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_bytes_of_a_format_do_not_change(name, version):
    layout = dataclasses.replace(LAYOUTS[name], format=version)
    shape = (1, 11, layout.entries)
    numbers = np.arange(11 * layout.entries).reshape(shape)
    nats = np.linspace(1, 2, 11 * len(layout.temperatures))
    nats = nats.reshape(1, 11, len(layout.temperatures))
    stored = {
        "indices": numbers * 7919 % layout.vocab_size,
        "logits": (numbers % layout.entries) * -0.25,
        "log_normalizers": nats,
        "log_rests": -nats,
        "entropies": nats + 1,
    }
    places = np.arange(11)[None]
    row = {
        "tokens": places * 3,
        "targets": places * 3 + 3,
        "mask": places < 9,
        "segment_ids": (1 + places // 4) * (places < 9),
        "positions": places % 4 * (places < 9),
    }
    (record,) = encode_batch(layout, indices=[5], rows=row, stored=stored)
    assert (
        hashlib.blake2b(record, digest_size=8).hexdigest() == GOLDEN[version][name]
    ), "the bytes of records have changed: that is a new FORMAT"


def test_temperatures_are_the_same_as_int_or_float():
    assert dataclasses.replace(TOP, temperatures=[1]).tag == TOP.tag


def test_nats_are_exact_float32():
    stored = anything(WIDE, 0, 1)
    table = stack(
        WIDE, encode_batch(WIDE, indices=[0], rows=row_of(WIDE), stored=stored)
    )
    back = nats(table, "log_normalizers")
    assert back.dtype == np.float32 and back.shape == (1, 11, 3)
    assert (back == np.round(back.astype(np.float64) * 2**20) / 2**20).all()
