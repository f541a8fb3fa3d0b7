"""Manifest of a directory of teacher records, written last, with its own digest.

    records/
        records-00000-of-00002.array_record   one record a row, in the order of rows
        records-00000-of-00002.array_record.json
        ...
        tokenizer.json                        the library's own format
        manifest.json

Nothing in it depends on when or by how many processes it was made: of the same
records, every process writes the same bytes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import atomic_files
from runner.errors import UserError
from runner.files import confined, form, remote
from runner.machine import versions
from runner.records.layout import FORMATS, Layout

NAME = "manifest.json"
TOKENIZER = "tokenizer.json"
FOLDER = "records"  # of a work directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Sources of records: one teacher on one dataset.

    Attributes:
      teacher: Its kind, for people.
      weights: Digest of its parameters.
      dtype: Of its forward pass.
      vocabulary: Digest of the vocabulary, `Vocabulary.digest`.
      end: Id that ends a document.
      data: Fingerprint of the rows, `Dataset.fingerprint`.
      sampling: Temperature and seed of draws; None for other modes.
    """

    teacher: str
    weights: str
    dtype: str
    vocabulary: str
    end: int
    data: str
    sampling: tuple[float, int] | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits, `Layout.origin` of its records."""
        return hashlib.blake2b(
            _canonical(dataclasses.asdict(self)), digest_size=8
        ).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of records, as the sidecar beside it says.

    Attributes:
      name: Of the file.
      first: Row number of its first record.
      count: Number of records.
      bytes: Size of the file.
      sha256: Of the file.
      hits: Positions whose target is among the stored entries.
      targets: Positions that have a target.

    Raises:
      ValueError: A number is negative.
    """

    name: str
    first: int
    count: int
    bytes: int
    sha256: str
    hits: int
    targets: int

    def __post_init__(self) -> None:
        if min(self.first, self.count, self.bytes, self.hits, self.targets) < 0:
            raise ValueError(f"{self.name} has a number below zero")


@dataclasses.dataclass(frozen=True)
class Sealed:
    """Content of a manifest's file: a manifest, and the digest of its JSON."""

    manifest: dict[str, Any]
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Description of a directory of records.

    Attributes:
      layout: Of every record.
      origin: Teacher and data.
      shards: Files, in the order of their rows.
      code: Program that wrote them, `retort 0.1.0 (commit)`.
    """

    layout: Layout
    origin: Origin
    shards: Sequence[Shard]
    code: str

    @property
    def records(self) -> int:
        """Number of records, of rows 0 to this."""
        return sum(shard.count for shard in self.shards)

    @property
    def hits(self) -> int:
        """Positions whose target is among the stored entries."""
        return sum(shard.hits for shard in self.shards)

    @property
    def targets(self) -> int:
        """Positions that have a target."""
        return sum(shard.targets for shard in self.shards)

    @property
    def hit_rate(self) -> float:
        """Share of the targets that are among the stored entries."""
        return self.hits / max(self.targets, 1)

    def check_teacher(self, weights: str, *, directory: Path | str) -> None:
        """Refuse records of another teacher than that with this digest of weights.

        Raises:
          UserError: Naming both.
        """
        if weights != self.origin.weights:
            raise UserError(
                f"{directory} was recorded from another teacher, {self.origin.teacher}:"
                f"\nits weights have digest {self.origin.weights}, wanted {weights}"
            )

    def check_data(self, fingerprint: str, *, directory: Path | str) -> None:
        """Refuse records of other data than that with this fingerprint.

        Raises:
          UserError: Naming both.
        """
        if fingerprint != self.origin.data:
            raise UserError(
                f"{directory} was recorded from other data:\n"
                f"its fingerprint is {self.origin.data}, wanted {fingerprint}"
            )


def locate(path: Path | str) -> Path:
    """The directory of records that `path` is, or a work directory has below it.

    Raises:
      UserError: Neither.
    """
    remote.refuse("records", str(path))
    path = Path(path).expanduser()
    for candidate in (path / FOLDER, path):
        if (candidate / NAME).is_file():
            return candidate
    if not path.is_dir():
        raise UserError(f"no such directory of teacher records: {path}")
    raise UserError(
        f"{path} holds no finished teacher records: neither {NAME} nor {FOLDER}/{NAME}"
    )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write it whole, synced, or not at all."""
    content = _content(manifest)
    text = json.dumps({"manifest": content, "sha256": _digest(content)}, indent=1)
    atomic_files.write_atomic(directory / NAME, text + "\n")


def read_manifest(directory: Path | str) -> Manifest:
    """The manifest of a directory, itself checked; the files are not.

    Raises:
      UserError: It is absent, altered, malformed or of another format, or names a file
        outside of the directory.
    """
    path = Path(directory) / NAME
    try:
        sealed = form.read(Sealed, path)
        if _digest(sealed.manifest) != sealed.sha256:
            raise form.Malformed("its own digest does not agree")
        version = sealed.manifest.get("format")
        if version not in FORMATS:
            *before, last = map(str, FORMATS)
            valid = f"{', '.join(before)} and {last}"
            raise UserError(f"{path} has format {version}, this program reads {valid}")
        manifest = form.parse(Manifest, sealed.manifest)
        layout = dataclasses.replace(manifest.layout, format=version)
        manifest = dataclasses.replace(manifest, layout=layout)
        for shard in manifest.shards:
            confined.inside(path.parent, shard.name)
    except FileNotFoundError:
        raise UserError(f"{directory} has no {NAME}: it was not finished") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    return manifest


def code_version() -> str:
    """`retort 0.1.0 (commit)`, of the program that runs."""
    software = versions.software()
    commit = software["commit"]
    return f"retort {software['libraries']['retort']}" + (f" ({commit})" * bool(commit))


def _content(manifest: Manifest) -> dict[str, Any]:
    totals = {name: getattr(manifest, name) for name in ("records", "hits", "targets")}
    content = dataclasses.asdict(manifest) | totals
    content["format"] = content["layout"].pop("format")
    if not manifest.layout.partial:  # as before there were such records
        del content["layout"]["partial"]
    return json.loads(_canonical(content | {"hit_rate": round(manifest.hit_rate, 6)}))


def _digest(content: object) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
