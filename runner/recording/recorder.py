"""A teacher's outputs as records: computed on the mesh, encoded on the host."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models import sharding
from models.base import Batch
from runner import runtime
from runner.data.labels import require_tokens
from runner.data.pipeline import numbered_batches
from runner.data.source import DataSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError
from runner.head import plan
from runner.head.token_blocks import TokenBlocks
from runner.machine import compiled_programs
from runner.machine import mesh as mesh_lib
from runner.recording.modes import Mode
from runner.records import format as record_format
from runner.records import manifest, shards
from runner.records.layout import CODINGS, Layout
from runner.teachers.base import Teacher, TeacherContext, TeacherTrunk

Tree = Any


class Recorder:
    """A recording on a mesh: computes, encodes and seals the records of a teacher.

    Attributes:
      dataset: The rows that records are made of.
      layout: Of the records.
      num_shards: Files in all, those of other processes included.
      alone: True if no other process writes.
    """

    def __init__(
        self,
        *,
        teacher: Teacher,
        data: DataSource,
        mode: Mode,
        temperatures: Sequence[float],
        batch_size: int,
        shard_size: int,
        coding: str,
        seed: int,
    ) -> None:
        """Load teacher and data; see `RecordTeacher` for the arguments.

        Raises:
          UserError: Teacher, data, mode and batch size do not fit together.
        """
        config = runtime.current()
        self._config, self._mode, self._seed = config, mode, seed
        self._batch_size = batch_size
        compiled_programs.keep(config.compilation)
        self._mesh = mesh_lib.make(config.mesh)
        mesh_lib.check_batch("batch_size", batch_size, self._mesh)

        # Data, then the teacher over its vocabulary.
        dataset = data.load(cache=config.input.cache)
        dataset.require_fixed("data")
        require_tokens(dataset.vocabulary)
        assert isinstance(dataset.vocabulary, Vocabulary)
        self.dataset, self._vocabulary = dataset, dataset.vocabulary
        self._teacher = teacher.load(
            TeacherContext(
                vocabulary=self._vocabulary,
                mesh=self._mesh,
                rules=config.mesh.rules,
                cache=config.input.cache,
                positions=dataset.targets_per_row,
            )
        )
        self.cautions = self._teacher.cautions
        if self._teacher.stored is not None:
            raise UserError("teacher: records cannot be recorded again; copy them")
        self._rows = self._teacher.rows_with_records(dataset)

        # What every record is to be checked against when a student reads it.
        arrays = jax.tree.leaves(self._teacher.abstract)
        self._origin = manifest.Origin(
            teacher=self._teacher.describe()["kind"],
            weights=teacher.identity(),
            dtype=str(arrays[0].dtype) if arrays else "",
            vocabulary=self._vocabulary.digest,
            end=self._vocabulary.end,
            data=dataset.fingerprint,
            sampling=(float(temperatures[0]), seed) if mode.uniforms else None,
        )
        self.layout = Layout(
            mode=mode.name,
            entries=mode.entries(self._vocabulary.size),
            vocab_size=self._vocabulary.size,
            sequence_length=dataset.targets_per_row,
            temperatures=mode.stored_temperatures(temperatures),
            origin=self._origin.digest,
            format=CODINGS[coding],
        )
        self.num_shards = math.ceil(len(dataset) / shard_size)
        self.alone = config.recording.processes == 1
        self._compiled = jax.jit(self._entries)
        self._fixed: Tree = None

    def describe(self) -> dict[str, Any]:
        """Describe teacher and data, which must be the same when recording resumes."""
        return {
            "data": self.dataset.describe_all(),
            "teacher": self._teacher.describe(),
        }

    def missing(self, directory: Path) -> Iterator[int]:
        """Yield the numbers of this process's shards that are not written yet."""
        share = self._config.recording
        done = shards.finished_shards(directory, self.num_shards, self.layout)
        for number in range(share.process, self.num_shards, share.processes):
            if number not in done:
                yield number

    def records(self, rows: range) -> Iterator[bytes]:
        """Yield encoded records; a batch is computed while the last one is encoded."""
        if self._fixed is None:
            self._fixed = self._teacher.read()
        numbers = np.arange(rows.start, rows.stop)
        batches = numbered_batches(
            self._rows,
            numbers,
            batch_size=self._batch_size,
            sharding=mesh_lib.batch_sharding(self._mesh),
        )
        unread = None
        for batch in batches:
            stored = self._compiled(self._fixed, batch)
            if unread is not None:
                yield from self._encoded(*unread)
            unread = batch["index"], stored
        if unread is not None:
            yield from self._encoded(*unread)

    def seal(self, directory: Path) -> manifest.Manifest | None:
        """Write the manifest, if the shards of all processes are there."""
        return shards.seal(
            directory,
            of=self.num_shards,
            layout=self.layout,
            origin=self._origin,
            records=len(self.dataset),
            vocabulary=self._vocabulary,
        )

    def _encoded(
        self, index: jax.Array, stored: Mapping[str, jax.Array]
    ) -> list[bytes]:
        numbers = np.asarray(index)
        real = numbers >= 0
        return record_format.encode_batch(
            self.layout,
            indices=numbers[real],
            rows=self.dataset.rows(numbers[real]),
            stored={name: np.asarray(x)[real] for name, x in stored.items()},
        )

    def _entries(self, fixed: Tree, batch: Batch) -> dict[str, jax.Array]:
        """Compute the arrays to store for a batch, `[B T ...]`."""
        with sharding.use(self._mesh, self._config.mesh.rules):
            teacher_trunk = self._teacher.trunk(
                fixed, {}, batch, capture=frozenset(), logits=True
            )
            blocks = TokenBlocks(
                mesh=self._mesh,
                token_axes=batch["tokens"].shape,
                size=plan.block_size(self._config.head, entries=self._vocabulary.size),
            )
            tokens = {"lesson": teacher_trunk.tokens, "uniform": self._uniform(batch)}

            def block(shared: Tree, block: Tree) -> dict[str, jax.Array]:
                return self._block(teacher_trunk, shared, block)

            return blocks.map(block, teacher_trunk.head_params, tokens)

    def _block(
        self, teacher_trunk: TeacherTrunk, shared: Tree, block: Tree
    ) -> dict[str, jax.Array]:
        logits = teacher_trunk.outputs(shared, block["lesson"], {}).logits
        assert logits is not None  # records are refused
        logits = logits.astype(jnp.float32)
        return self._mode.select(logits, block["uniform"], self.layout.temperatures)

    def _uniform(self, batch: Batch) -> jax.Array:
        """Draw `[B T uniforms]` in [0, 1), a function of the seed and the row alone."""
        key = jax.random.key(self._seed)
        shape = (batch["tokens"].shape[1], self._mode.uniforms)

        def row(index: jax.Array) -> jax.Array:
            return jax.random.uniform(jax.random.fold_in(key, index), shape)

        return jax.vmap(row)(batch["index"])
