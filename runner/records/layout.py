"""Layout of a record: the place of each number, as one structured dtype."""

import dataclasses
import functools
import hashlib
import json
from typing import Literal

import numpy as np

from runner.errors import UserError

MAGIC = b"RtTR"  # Retort teacher record
FORMAT = 2  # of what is written, unless it is packed
DEFLATED = (3, 4)  # the numbers of format 2 in fewer bytes, exact and rounded; as 5, 6
BY_RANK = (5, 6)  # and as 7, 8
PACKED, ROUNDED = 7, 8
FORMATS = (1, FORMAT, *DEFLATED, *BY_RANK, PACKED, ROUNDED)  # of what is read
CODINGS = {"plain": FORMAT, "packed": PACKED, "rounded": ROUNDED}
MODES = ("top_k", "sampled", "full")
WIDE = 1 << 16  # ids from here on need a second plane, of four bits each
LARGEST = 1 << 20  # vocabulary
RUNS = ("segment_ids", "positions", "mask", "targets")  # in this order, at the end
CHECKED = 8  # the checksum covers the record from this byte on: all but itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """All that decides the bytes of a record of given numbers.

    Attributes:
      mode: Entries are the best ones, draws, or the whole vocabulary.
      entries: Number a token: k, n, or the vocabulary's size.
      vocab_size: Number of ids of the vocabulary, V.
      sequence_length: Positions in a row, T.
      temperatures: Those with a log-normaliser (and, for draws, an entropy) a token;
        whole logits need none, and have none. Best entries have none where the mass
        outside of them is not known.
      origin: 16 hexadecimal digits, of the sources of the records, `Origin.digest`.
        Records of another origin, alike in shape, are told by it.
      format: Version of the bytes. In 1, logits 32 nats and more below the largest are
        one code, and there are no log-rests. 5 and 6 are records of format 2 that lie
        packed in their files (`packing`), in 6 rounded before (`rounding`); 3 and 4
        the same as first written (`deflated`).
      partial: True if some positions with a target were not scored; a bit each says
        which were.

    Raises:
      UserError: Records of this kind cannot be written.
    """

    mode: Literal["top_k", "sampled", "full"]
    entries: int
    vocab_size: int
    sequence_length: int
    temperatures: tuple[float, ...] = (1.0,)
    origin: str = "0" * 16
    format: int = FORMAT
    partial: bool = False

    def __post_init__(self) -> None:
        temperatures = tuple(float(t) for t in self.temperatures)
        object.__setattr__(self, "temperatures", temperatures)  # 1 and 1.0 are one
        if self.mode not in MODES:
            raise UserError(f"mode must be one of {', '.join(MODES)}, got {self.mode}")
        if self.format not in FORMATS:
            raise UserError(f"format must be one of {FORMATS}, got {self.format}")
        if self.packed and self.mode != "top_k":
            raise UserError(f"best entries alone are packed, not {self.mode} records")
        if not 2 <= self.vocab_size <= LARGEST:
            raise UserError(
                f"teacher records hold ids of a vocabulary of 2 to {LARGEST} tokens, "
                f"this one has {self.vocab_size}"
            )
        most = LARGEST if self.mode == "sampled" else self.vocab_size
        least = self.vocab_size if self.mode == "full" else 1
        if not least <= self.entries <= most:
            raise UserError(
                f"{self.mode} records of a vocabulary of {self.vocab_size} tokens hold "
                f"{least} to {most} entries a token, not {self.entries}"
            )
        if not 1 <= self.sequence_length < 1 << 32:
            raise UserError(f"sequence_length is {self.sequence_length}")
        if not all(0 < t < float("inf") for t in self.temperatures):
            raise UserError(f"temperatures must be positive, got {self.temperatures}")
        some = {"full": False, "sampled": True}.get(self.mode, bool(self.temperatures))
        if len(set(self.temperatures)) < len(self.temperatures) or (
            bool(self.temperatures) != some
        ):
            rule = {"full": "no temperatures", "sampled": "each once, some"}
            rule = rule.get(self.mode, "each once")
            raise UserError(
                f"temperatures of {self.mode} records: {rule}, got {self.temperatures}"
            )
        try:
            _ = self.dtype  # NumPy's are below 2 GiB
        except ValueError:
            raise UserError(
                f"a record of {self.sequence_length} positions with {self.entries} "
                "entries each is too large"
            ) from None

    @property
    def packed(self) -> bool:
        """True if records lie packed in their files."""
        return self.format > FORMAT

    @property
    def tabled(self) -> bool:
        """True if each file begins with a table of codes."""
        return self.packed and self.format not in DEFLATED

    @property
    def checked_packed(self) -> bool:
        """True if the checksum of a record in a file is that of its packed bytes."""
        return self.format in (PACKED, ROUNDED)

    @property
    def rounded(self) -> bool:
        """True if numbers were rounded before."""
        return self.format in (DEFLATED[1], BY_RANK[1], ROUNDED)

    @property
    def wide(self) -> bool:
        """True if ids take a second plane."""
        return self.vocab_size > WIDE

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays of entries to store, `[T entries]` each."""
        names = {"top_k": ("indices", "logits"), "sampled": ("indices",)}
        return names.get(self.mode, ("logits",))

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the numbers to store a temperature, `[T temperatures]` each."""
        if not self.temperatures:
            return ()
        rests = ("log_rests",) if self.format > 1 else ()
        names = {"top_k": ("log_normalizers", *rests), "full": ()}
        return names.get(self.mode, ("log_normalizers", "entropies"))

    @functools.cached_property
    def tag(self) -> bytes:
        """8 bytes that differ when any field does."""
        fields = dataclasses.asdict(self)
        version = fields.pop("format")
        if not self.partial:  # as before there were such records
            del fields["partial"]
        text = json.dumps([version, fields], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    @functools.cached_property
    def place(self) -> np.dtype:
        """Of a position in the row, or a count of them."""
        return np.dtype("<u2" if self.sequence_length < 1 << 16 else "<u4")

    @functools.cached_property
    def run(self) -> np.dtype:
        """Of one run: where it begins, and the value from there on."""
        return np.dtype([("start", self.place), ("value", "<i4")])

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """Of a record up to its runs, little-endian; planes begin at even bytes.

        magic, checksum (CRC-32 of all that follows), format, mode, number of
        temperatures, sequence length, entries, vocabulary, tag, row number, targets
        (how many positions have one), binding (blake2b of tokens, segment ids and
        positions), number of runs of each kind; then the planes:

            ids16, ids4       [T entries]     entries; high bits two to a byte
            drops             [T k-1] or [T V] codes of largest logit - logit
            log_normalizers   [temperatures T] 24 bits, two planes, 2⁻²⁰ nats
            log_rests         [temperatures T] the same, 2⁻¹⁷ nats (`top_k`)
            entropies         [temperatures T] the same
            tokens16, tokens4 [T]
            hits              [T] bits: the target is among the entries
            known             [T] bits: the position was scored (`partial`)
        """
        length, k, temperatures = (
            self.sequence_length,
            self.entries,
            len(self.temperatures),
        )
        half = lambda n: -(-n // 2)  # noqa: E731 - two to a byte

        # Planes of two bytes first, so that each begins at an even byte.
        planes: list[tuple] = []
        if self.mode != "full":
            planes.append(("ids16", "<u2", (length, k)))
        if self.mode != "sampled":
            width = k if self.mode == "full" else k - 1
            planes.append(("drops", "<u2", (length, width)))
        planes += [
            (f"{name}_low", "<u2", (temperatures, length)) for name in self.words
        ]
        planes.append(("tokens16", "<u2", (length,)))

        # Then those of one byte.
        planes += [
            (f"{name}_high", "u1", (temperatures, length)) for name in self.words
        ]
        if self.wide:
            if self.mode != "full":
                planes.append(("ids4", "u1", (length, half(k))))
            planes.append(("tokens4", "u1", (half(length),)))
        planes.append(("hits", "u1", (-(-length // 8),)))
        if self.partial:
            planes.append(("known", "u1", (-(-length // 8),)))
        header = [
            ("magic", "S4"),
            ("checksum", "u1", (4,)),
            ("format", "u1"),
            ("mode", "u1"),
            ("temperatures", "<u2"),
            ("sequence_length", "<u4"),
            ("entries", "<u4"),
            ("vocab_size", "<u4"),
            ("tag", "u1", (8,)),
            ("index", "<u8"),
            ("targets", "<u4"),
            ("binding", "u1", (16,)),
            ("runs", self.place, (len(RUNS),)),
        ]
        return np.dtype(header + planes)
