"""Sets of records to test with: rows of packed documents, and a made-up teacher."""

import dataclasses
import functools

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from runner.data.text.vocabulary import Vocabulary, vocabulary
from runner.records.format import Layout, encode_batch
from runner.records.manifest import Manifest, Origin
from runner.records.rows import default_positions
from runner.records.shards import seal, shard_rows, write_shard


def byte_vocabulary(*extra: str) -> Vocabulary:
    """Every byte, and some more tokens."""
    tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *extra]
    ids = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return vocabulary(tokenizer, end=0)


VOCABULARY = byte_vocabulary()
ORIGIN = Origin(
    teacher="Transformer, 2 layers",
    weights="ab" * 16,
    dtype="float32",
    vocabulary=VOCABULARY.digest,
    end=0,
    data="ef" * 16,
)


def rows(random, *, count: int, length: int, vocab: int) -> dict[str, np.ndarray]:
    """`[count, length]` rows of packed documents; the last one is padded."""
    lengths = random.integers(1, 2 * length, 4 * count)
    stream = np.repeat(np.arange(len(lengths)), lengths)[: count * length]
    segments = stream.reshape(count, length)
    segments = (segments - segments[:, :1] + 1).astype(np.int32)
    tokens = random.integers(1, vocab, count * length + 1)
    inputs = tokens[:-1].reshape(count, length).astype(np.int32)
    targets = tokens[1:].reshape(count, length).astype(np.int32)
    mask = np.ones((count, length), bool)
    mask[-1, length - length // 4 :] = False
    segments[~mask] = inputs[~mask] = targets[~mask] = 0
    return {
        "tokens": inputs,
        "targets": targets,
        "mask": mask,
        "segment_ids": segments,
        "positions": default_positions(segments),
    }


def said(random, layout: Layout, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a teacher says that is often right, by the whole vocabulary of logits."""
    shape = data["tokens"].shape
    logits = random.normal(0, 3, (*shape, layout.vocab_size)).astype(np.float32)
    right = random.random(shape) < 0.6
    b, t = np.nonzero(right)
    logits[b, t, data["targets"][b, t]] += 20
    return chosen(random, layout, logits)


def chosen(random, layout: Layout, logits: np.ndarray) -> dict[str, np.ndarray]:
    """What of `logits` `[B T V]` is stored, computed in float64."""
    if layout.mode == "full":
        return {"logits": logits}
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    normalizers, entropies = [], []
    for temperature in layout.temperatures:
        z = np.log(np.exp(shifted / temperature).sum(-1))
        p = np.exp(shifted / temperature - z[..., None])
        normalizers.append(z)
        entropies.append(-(p * np.log(np.maximum(p, 1e-300))).sum(-1))
    stored = {"log_normalizers": np.stack(normalizers, -1).astype(np.float32)}
    if layout.mode == "top_k":
        best = np.argsort(-logits, -1, kind="stable")[..., : layout.entries]
        np.put_along_axis(shifted, best, -np.inf, axis=-1)
        with np.errstate(divide="ignore"):
            rests = [
                np.log(np.exp(shifted / temperature).sum(-1))
                for temperature in layout.temperatures
            ]
        return stored | {
            "log_rests": np.stack(rests, -1).astype(np.float32),
            "indices": best.astype(np.int32),
            "logits": np.take_along_axis(logits, best, -1),
        }
    gumbel = random.gumbel(size=(layout.entries, *logits.shape)).astype(np.float32)
    draws = np.moveaxis((gumbel + logits).argmax(-1), 0, -1).astype(np.int32)
    return stored | {"indices": draws, "entropies": np.stack(entropies, -1)}


@dataclasses.dataclass(frozen=True)
class Made:
    """A finished directory of records, and what they were made from."""

    layout: Layout
    data: dict[str, np.ndarray]
    stored: dict[str, np.ndarray]
    records: list[bytes]
    manifest: Manifest | None


def make(directory, layout: Layout, *, count=12, of=2, seed=0, origin=ORIGIN) -> Made:
    """Write `count` records into `directory`, `of` shards, and seal them."""
    data, stored = _content(layout, count, seed)
    layout = dataclasses.replace(layout, origin=origin.digest)
    records = encode_batch(layout, indices=range(count), rows=data, stored=stored)
    manifest = put(directory, layout, records, of=of, origin=origin)
    return Made(layout, data, stored, records, manifest)


@functools.lru_cache(maxsize=64)
def _content(layout: Layout, count: int, seed: int):
    random = np.random.default_rng(seed)
    length, vocab = layout.sequence_length, layout.vocab_size
    data = rows(random, count=count, length=length, vocab=vocab)
    return data, said(random, layout, data)


def put(directory, layout, records, *, of=2, origin=ORIGIN) -> Manifest | None:
    """Write `records` as shards and seal them."""
    for number in range(of):
        numbers = shard_rows(number, of=of, rows=len(records))
        part = [records[i] for i in numbers]
        write_shard(directory, number, of, part, layout, first=numbers.start)
    return seal(
        directory,
        of=of,
        layout=layout,
        origin=origin,
        records=len(records),
        vocabulary=VOCABULARY,
        code="test",
    )
