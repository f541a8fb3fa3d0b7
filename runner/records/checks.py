"""Checks of records beyond their checksums, a batch at a time.

A checksum says that the bytes are those that were written. These say that they can be
a teacher's outputs: ids of the vocabulary, best first, no more than one of probability,
and that they hit the recorded targets where they did when they were recorded.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from runner.records import codes
from runner.records.layout import Layout
from runner.records.record import entry_ids, nats, unpacked_hits, unpacked_known
from runner.records.rows import hits

# Of probability: rounding of logits is 2⁻¹² nats, 2.5e-4 of a probability, at T = 1;
# teachers compute the sum over the vocabulary in float32, in another order.
TOLERANCE = 1e-3

Fault = tuple[int, str]  # place in the batch, reason


def first_fault(
    layout: Layout, table: np.ndarray, targets: np.ndarray, mask: np.ndarray
) -> Fault | None:
    """Return the first record that cannot be a teacher's, and the reason.

    Args:
      layout: Of the records.
      table: Records, `[B]` of `layout.dtype`.
      targets: Of the rows of data, `[B T]`.
      mask: Of the rows of data, `[B T]`.
    """
    for bad, reason in _faults(layout, table, targets, mask):
        if bad.any():
            place = int(bad.reshape(len(table), -1).any(-1).argmax())
            return place, reason(place)
    return None


def first_repeated(layout: Layout, table: np.ndarray) -> Fault | None:
    """The first record that names an entry of the best twice for one token."""
    ids = entry_ids(layout, table)
    if layout.mode != "top_k" or ids is None:
        return None
    ids = np.sort(ids, axis=-1)
    bad = (ids[..., 1:] == ids[..., :-1]).any((-1, -2))
    return (int(bad.argmax()), "holds an entry twice") if bad.any() else None


_Check = tuple[Any, Callable[[int], str]]


def _faults(layout, table, targets, mask) -> Iterator[_Check]:
    ids = entry_ids(layout, table)
    if ids is not None:
        yield (
            _largest(ids) >= layout.vocab_size,
            lambda i: (
                f"holds id {ids[i].max()}, outside of a vocabulary of "
                f"{layout.vocab_size} tokens"
            ),
        )
    if layout.mode != "sampled":
        yield from _logits(layout, table)
    if layout.mode == "sampled":
        yield from _draws(layout, table, ids)
    recorded = unpacked_hits(layout, table)
    among = hits(ids, targets, mask & unpacked_known(layout, table))
    yield (
        recorded != among,
        lambda i: (
            f"its entries hit {int(among[i].sum())} next tokens, not the "
            f"{int(recorded[i].sum())} recorded, first at position "
            f"{int((recorded[i] != among[i]).argmax())}{_shift(ids, i, targets, table)}"
        ),
    )


def _logits(layout: Layout, table: np.ndarray) -> Iterator[_Check]:
    drops = table["drops"]

    # Codes are finite, and the largest comes first.
    yield (
        _largest(drops) == codes.RESERVED,
        lambda i: "holds a logit that is not finite",
    )
    if layout.format == 1:
        yield (
            _largest(drops) == codes.FARTHEST,
            lambda i: (
                "holds a logit 32 nats below the best or farther, which records of "
                "format 1 do not tell apart; record the teacher again"
            ),
        )
    if layout.mode == "full":
        yield (
            drops.min(-1) != 0,
            lambda i: "holds a token without a largest logit",
        )
        return
    yield (
        drops[..., 1:] < drops[..., :-1],
        lambda i: "holds entries that are not best first",
    )

    # Entries and the rest share one unit of probability at every temperature.
    if not layout.temperatures:
        return
    log_normalizers = nats(table, "log_normalizers")
    yield from _range(layout, log_normalizers, "log-normaliser")
    rests = np.zeros_like(log_normalizers)
    if "log_rests" in layout.words:
        log_rests = nats(table, "log_rests")
        yield from _range(layout, log_rests, "log-rest")
        rests = np.exp(log_rests)
    for column, temperature in enumerate(layout.temperatures):
        entries = codes.exponentials(temperature, version=layout.format).take(drops)
        mass = 1 + np.einsum("...k->...", entries) + rests[..., column]
        share = mass * np.exp(-log_normalizers[..., column])
        limit = 1 + TOLERANCE * max(1.0, 1 / temperature)
        yield (
            share > limit,
            functools.partial(_too_much, share, temperature, limit),
        )


def _draws(layout: Layout, table: np.ndarray, ids) -> Iterator[_Check]:
    yield (
        (ids[..., 1:] < ids[..., :-1]).any(-1),
        lambda i: "holds draws that are not sorted",
    )
    log_normalizers, entropies = (
        nats(table, "log_normalizers"),
        nats(table, "entropies"),
    )
    yield from _range(layout, log_normalizers, "log-normaliser")
    yield from _range(layout, entropies, "entropy")
    # Entropy is at least -log of the largest probability.
    yield (
        entropies < log_normalizers - TOLERANCE * 2,
        lambda i: "holds an entropy below the log-normaliser: more than 1 of mass",
    )


def _range(layout: Layout, x: np.ndarray, name: str) -> Iterator[_Check]:
    most = float(np.log(layout.vocab_size))
    yield (
        x > most + TOLERANCE,
        lambda i: (
            f"holds a {name} of {x[i].max():.3f} nats, more than the log of the "
            f"vocabulary, {most:.3f}"
        ),
    )


def _too_much(share: np.ndarray, temperature: float, limit: float, i: int) -> str:
    return (
        f"its entries have a mass of {share[i].max():.4f} at temperature "
        f"{temperature:g}, the rest included, more than {limit:.4g}"
    )


def _shift(ids, i: int, targets: np.ndarray, table: np.ndarray) -> str:
    """Words for entries that belong to the neighbouring positions, if they do."""
    if ids is None:
        return ""
    length = targets.shape[-1]
    recorded = np.unpackbits(table["hits"][i], count=length).astype(bool)
    for by in (1, -1):
        there, here = (
            slice(max(by, 0), length + min(by, 0)),
            slice(max(-by, 0), length + min(-by, 0)),
        )
        moved = (ids[i, there] == targets[i, here, None]).any(-1)
        if length > 1 and (moved | ~recorded[here]).all():
            return ": they are shifted by one against its tokens"
    return ""


def _largest(x: np.ndarray) -> np.ndarray:
    """Largest value of each record, `[B]`."""
    return x.reshape(len(x), -1).max(-1, initial=0)
