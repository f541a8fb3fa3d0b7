"""Description of a directory of records, for people to read."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from runner.errors import UserError
from runner.records.manifest import Manifest
from runner.records.reader import Records
from runner.records.record import Record
from runner.records.verify import next_and_own
from runner.records.vocabularies import recorded_vocabulary
from runner.writers.quantities import quantity

TOKENS, GUESSES, CONTEXT = 8, 5, 4
SAMPLE = 32  # records that hits of neighbouring tokens are counted in
_OFF = 0.1  # this much more often the token itself than the next is worth a word


def describe(path: Path | str) -> Iterator[str]:
    """Yield lines: sizes, teacher, hit rate, the teacher's guesses of a few tokens.

    Raises:
      UserError: There are no finished records, or the first one is damaged.
    """
    records = Records.load(path)
    manifest = records.manifest
    for name, value in _facts(records, manifest):
        yield f"{name:<12}{value}"
    if not len(records):
        return
    numbers = np.unique(np.linspace(0, len(records) - 1, SAMPLE).astype(int))
    if manifest.layout.mode != "full":
        following, own = next_and_own(records, numbers)
        if own > following + _OFF:
            yield (
                f"{'':<12}of {len(numbers)} rows {own:.1%} of the tokens themselves "
                "are: was the teacher recorded one position off?"
            )
    yield ""
    yield from _guesses(records.read([0])[0], _reader(records))


def _facts(records: Records, manifest: Manifest) -> Iterator[tuple[str, str]]:
    layout, origin = manifest.layout, manifest.origin
    size = sum(shard.bytes for shard in manifest.shards)
    tokens = max(len(records) * layout.sequence_length, 1)
    temperatures = ", ".join(f"{t:g}" for t in layout.temperatures)

    # Contents.
    yield "records", f"{records.directory}"
    yield "rows", f"{len(records):,} of {layout.sequence_length:,} tokens"
    yield (
        "size",
        f"{quantity(size)}B in {len(manifest.shards)} files, "
        f"{size / tokens:.1f} bytes a token",
    )
    coding = ", packed" if layout.packed else ""
    coding = ", rounded and packed" if layout.rounded else coding
    yield (
        "entries",
        _entries(layout.mode, layout.entries, layout.vocab_size) + coding,
    )
    if temperatures:
        yield "stored for", f"temperature {temperatures}"
    elif layout.mode == "top_k":
        yield "mass", "of the entries in all of the vocabulary is not known"
    if layout.partial:
        yield "scored", "a part of the positions; the others teach nothing"
    if origin.sampling:
        yield (
            "drawn",
            f"at temperature {origin.sampling[0]:g}, seed {origin.sampling[1]}",
        )

    # Origin, which is checked against the run that reads them.
    yield "teacher", f"{origin.teacher}, {origin.dtype}"
    yield "weights", origin.weights
    yield "tokenizer", f"{origin.vocabulary}, documents end with {origin.end}"
    yield "data", origin.data
    yield "written by", manifest.code
    yield (
        "hit rate",
        f"{manifest.hit_rate:.1%} of {manifest.targets:,} next tokens are among the "
        "entries",
    )


def _entries(mode: str, entries: int, vocab_size: int) -> str:
    return {
        "top_k": f"the {entries} best of {vocab_size:,}",
        "sampled": f"{entries} draws from {vocab_size:,}",
        "full": f"all {vocab_size:,}",
    }[mode]


def _reader(records: Records) -> Callable[[Sequence[int]], str]:
    """Return the function from ids to text, quoted; ids without text as `<id>`."""
    try:
        decode = recorded_vocabulary(records.manifest, records.directory).decode
    except UserError:
        return lambda ids: " ".join(f"<{i}>" for i in ids)
    return lambda ids: repr(text) if (text := decode(ids)) else f"<{ids[-1]}>"


def _guesses(record: Record, text: Callable[[Sequence[int]], str]) -> Iterator[str]:
    places = np.flatnonzero(record.mask & record.known)
    places = places[len(places) // 2 :][:TOKENS]
    yield (
        f"row {record.index}: the last tokens, the next (+ if stored), and the "
        "teacher's guesses"
    )
    for place in places.tolist():
        before = text(record.tokens[max(place + 1 - CONTEXT, 0) : place + 1].tolist())
        target = text([int(record.targets[place])])
        mark = "+" if record.hits[place] else "-"
        guesses = [f"{text([i])} {share:.0%}" for i, share in _best(record, place)]
        yield f"  {place:>5}  {before} -> {target} {mark}   {'  '.join(guesses)}"


def _best(record: Record, place: int) -> list[tuple[int, float]]:
    """The most probable entries of a token, and their probability or share of draws."""
    layout = record.layout
    if layout.mode == "sampled":
        assert record.ids is not None
        tokens, counts = np.unique(record.ids[place], return_counts=True)
        shares = counts / layout.entries
    elif layout.mode == "full":
        shares = np.exp(record.logits[place])
        shares, tokens = shares / shares.sum(), np.arange(layout.vocab_size)
    else:
        assert record.ids is not None
        logits = np.append(np.float32(0), record.logits[place])
        if layout.temperatures:
            z = record.log_normalizers[place, 0]
            shares = np.exp(logits / layout.temperatures[0] - z)
        else:
            shares = np.exp(logits) / np.exp(logits).sum()
        tokens = record.ids[place]
    order = np.argsort(-shares, kind="stable")[:GUESSES]
    return [(int(tokens[i]), float(shares[i])) for i in order]
