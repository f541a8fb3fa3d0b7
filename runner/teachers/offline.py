"""A teacher's outputs from records, joined to the data as it is read."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import losses
from models.base import Batch
from runner.data.dataset import Dataset
from runner.data.joined_rows import Arrays, Join
from runner.data.labels import require_tokens
from runner.data.text.record_files import sha256_of
from runner.records import codes
from runner.records.layout import FORMAT
from runner.records.manifest import NAME
from runner.records.reader import Records
from runner.teachers.base import LoadedTeacher, Teacher, TeacherContext, TeacherTrunk

Tree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfflineTeacher(Teacher):
    """Records that `RecordTeacher` wrote, read beside the data and checked against it.

    A record belongs to one row: its tokens, segments and positions are compared with
    the row's (blake2b), and every number is checked before it is used. The data's own
    mask, segments and positions hold.

    Attributes:
      records: the work directory of the recording, or the directory of its shards.
      teacher: the one that must have written them; None for any.
    """

    records: str
    teacher: Teacher | None = None

    def check(self) -> None:
        Records.load(self.records)

    def load(self, context: TeacherContext) -> "LoadedRecords":
        require_tokens(context.vocabulary)
        records = Records.load(self.records)
        records.check_vocabulary(context.vocabulary)
        if self.teacher is not None:
            records.check_teacher(self.teacher.identity())
        return LoadedRecords(records)


class LoadedRecords(LoadedTeacher):
    """Records as a teacher: it has no arrays, all comes with the batch.

    Attributes:
      records: that it reads.
    """

    def __init__(self, records: Records):
        self.records = records
        self.stored = losses.RecordSpec(
            mode=records.layout.mode,
            temperatures=records.layout.temperatures,
            partial=records.layout.partial,
        )
        if records.layout.format == 1 and records.layout.mode == "top_k":
            self.cautions = (
                f"{records.directory} has format 1: the mass outside of a token's "
                "entries is known to 1e-6 alone, which a reverse KL sees of a sure "
                "teacher; record the teacher again",
            )

    def describe(self) -> Mapping[str, Any]:
        manifest = self.records.directory / NAME
        return {"kind": "offline", "manifest": sha256_of(manifest)}

    def covers(self, dataset: Dataset) -> bool:
        return self.records.manifest.origin.data == dataset.fingerprint

    def joins(self, dataset: Dataset) -> Sequence[Join]:
        """Return what reads the records; it refuses one that is not that of its row."""
        self.records.check_data(dataset.fingerprint)
        return [record_of(self.records)]

    def trunk(
        self,
        frozen: Tree,
        ema: Tree,
        batch: Batch,
        *,
        capture: frozenset[str],
        logits: bool,
    ) -> TeacherTrunk:
        del frozen, ema, batch, capture, logits  # all of it lies in the block's batch
        assert self.stored is not None
        whole = self.stored.mode == "full"
        return TeacherTrunk(
            tokens={}, head_params={}, outputs=self._outputs, full_logits=whole
        )

    def _outputs(
        self, head_params: Tree, tokens: Tree, batch: Batch
    ) -> losses.TeacherOutputs:
        del head_params, tokens
        assert self.stored is not None
        return unpacked(batch, self.stored, self.records.layout.format)


def record_of(records: Records) -> Join:
    """Return what joins to each row its record."""

    def join(rows: Arrays, numbers: np.ndarray) -> Arrays:
        return records.teacher_arrays(numbers, rows)

    return join


def unpacked(
    batch: Batch, stored: losses.RecordSpec, version: int = FORMAT
) -> losses.TeacherOutputs:
    """Return the stored planes of a block, `[*b ...]`, as distributions.

    Only here do ids become int32 and codes float32: on the device, a block at a time.
    """
    logits = None
    if "teacher/drops" in batch:
        logits = _logits(batch["teacher/drops"], version)
    if stored.mode == "top_k":
        assert logits is not None
        best = jnp.zeros((*logits.shape[:-1], 1), jnp.float32)
        logits = jnp.concatenate([best, logits], axis=-1)
    return losses.TeacherOutputs(
        indices=None if stored.mode == "full" else _ids(batch),
        logits=logits,
        log_normalizers=_by_temperature(batch, "teacher/log_normalizers", stored),
        log_rests=_by_temperature(batch, "teacher/log_rests", stored),
        entropies=_by_temperature(batch, "teacher/entropies", stored),
    )


def _logits(drops: jax.Array, version: int) -> jax.Array:
    """Return what `codes.logits` does, as JAX."""
    near = drops.astype(jnp.float32) * jnp.float32(-codes.DROP)
    if version == 1:
        return near
    number = drops.astype(jnp.int32)
    beyond = jnp.maximum(number - codes.FAR, 0)
    far = (codes.DOUBLING + beyond % codes.DOUBLING) << (beyond // codes.DOUBLING)
    scale = -codes.DROP * codes.FAR / codes.DOUBLING
    known = jnp.where(number < codes.FAR, near, far.astype(jnp.float32) * scale)
    return jnp.where(number >= codes.FARTHEST, -jnp.inf, known)


def _by_temperature(
    batch: Batch, key: str, stored: losses.RecordSpec
) -> dict[float, jax.Array]:
    if key not in batch:
        return {}
    return {t: batch[key][..., i] for i, t in enumerate(stored.temperatures)}


def _ids(batch: Batch) -> jax.Array:
    """Return int32 ids of their 16-bit plane and, if there is one, 4-bit plane."""
    ids = batch["teacher/ids16"].astype(jnp.int32)
    if "teacher/ids4" not in batch:
        return ids
    high = batch["teacher/ids4"].astype(jnp.int32)
    halves = jnp.stack([high & 15, high >> 4], axis=-1)
    halves = halves.reshape(*high.shape[:-1], -1)[..., : ids.shape[-1]]
    return ids | (halves << 16)
