"""Batches of rows on the devices; which rows is a pure function of (seed, step)."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from runner.errors import UserError

if TYPE_CHECKING:
    import grain

    from runner.runtime import Input

Batch = dict[str, jax.Array]


class Rows(Protocol):
    """What batches are made of."""

    def __len__(self) -> int: ...

    def rows(self, numbers: np.ndarray, /) -> dict[str, np.ndarray]:
        """The rows with these numbers `[b]`: arrays `[b, ...]`, one of them `mask`."""
        ...


class Batches(Iterator[Batch]):
    """Global batches for ever; a context manager that stops the reading threads."""

    def __init__(self, iterator: "grain.DatasetIterator[Batch]") -> None:
        self._iterator = iterator

    def __next__(self) -> Batch:
        return next(self._iterator)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the reading threads."""
        self._iterator.close()


def batches(
    dataset: Rows,
    *,
    batch_size: int,
    seed: int,
    start: int,
    sharding: Sharding,
    config: "Input",
) -> Batches:
    """Training batches from step `start` on: each array `[batch_size, ...]`.

    Every epoch is a new permutation of all rows, and a batch may reach over the end of
    one. `index` `[batch_size]` int32 says which rows these are. Each process reads only
    the rows that its own devices hold; neither that, nor the prefetching, nor the
    number of threads changes a batch.

    Raises:
      UserError: the dataset has fewer rows than a batch.
    """
    import grain

    if len(dataset) < batch_size:
        raise UserError(
            f"the data has {len(dataset)} rows, fewer than one batch of {batch_size}"
        )
    place = _Placement(sharding, batch_size)
    order = grain.MapDataset.range(len(dataset)).seed(seed % 2**32).shuffle().repeat()
    steps = grain.MapDataset.source(_Steps(dataset, order, place, batch_size))
    options = grain.ReadOptions(
        num_threads=config.threads, prefetch_buffer_size=config.prefetch
    )
    iterator = iter(steps.to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return Batches(iterator)


def evaluation_batches(
    dataset: Rows,
    *,
    batch_size: int,
    sharding: Sharding,
    limit: int | None = None,
) -> Iterator[Batch]:
    """Each row once and in order; the last batch is filled up with masked rows.

    `limit` batches, if the dataset has more, are made of rows spread evenly over all of
    it: always the same ones, and not only those of its first documents. A row that only
    fills up has index -1.
    """
    wanted = len(dataset) if limit is None else min(limit * batch_size, len(dataset))
    chosen = np.arange(wanted) * len(dataset) // max(wanted, 1)
    return numbered_batches(dataset, chosen, batch_size=batch_size, sharding=sharding)


def numbered_batches(
    dataset: Rows, numbers: np.ndarray, *, batch_size: int, sharding: Sharding
) -> Iterator[Batch]:
    """The rows `numbers`, in order; the last batch is filled up with masked rows.

    A row that only fills up has index -1.
    """
    place = _Placement(sharding, batch_size)
    padded = np.full(-(-len(numbers) // batch_size) * batch_size, -1)
    padded[: len(numbers)] = numbers
    for chosen in padded.reshape(-1, batch_size):
        yield place(_read(dataset, chosen[place.rows]))


class _Steps:
    """The batch of each step, for grain to read by step in its threads."""

    def __init__(
        self,
        dataset: Rows,
        order: "grain.MapDataset[int]",
        place: "_Placement",
        batch_size: int,
    ) -> None:
        self._dataset, self._order = dataset, order
        self._place, self._batch_size = place, batch_size

    def __len__(self) -> int:
        return sys.maxsize // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        first = index * self._batch_size
        numbers = [self._order[first + int(row)] for row in self._place.rows]
        return self._place(_read(self._dataset, np.array(numbers)))

    def __repr__(self) -> str:
        return "Steps"


def _read(dataset: Rows, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Rows and their numbers, `[len(numbers), ...]`; masked where that is negative."""
    rows = dataset.rows(np.maximum(numbers, 0))
    real = numbers >= 0
    mask = rows["mask"]
    mask = mask & real.reshape(real.shape + (1,) * (mask.ndim - 1))
    return {**rows, "mask": mask, "index": numbers.astype(np.int32)}


class _Placement:
    """From this process's rows of a batch to global arrays.

    rows: numbers within the batch of the rows that this process's devices hold.
    """

    def __init__(self, sharding: Sharding, batch_size: int) -> None:
        self._sharding, self._batch_size = sharding, batch_size
        slices = _for_rank(sharding, 1).addressable_devices_indices_map((batch_size,))
        held = [range(batch_size)[index[0]] for index in slices.values() if index]
        self.rows = np.unique(np.concatenate([np.asarray(rows) for rows in held]))
        self._local = {int(row): at for at, row in enumerate(self.rows)}

    def __call__(self, rows: dict[str, np.ndarray]) -> Batch:
        return {name: self._array(values) for name, values in rows.items()}

    def _array(self, values: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # JAX asks only for what this process holds
            rows = range(self._batch_size)[index[0]]
            first = self._local[rows[0]]
            return values[(slice(first, first + len(rows)), *index[1:])]

        shape = (self._batch_size, *values.shape[1:])
        return jax.make_array_from_callback(
            shape, _for_rank(self._sharding, len(shape)), part
        )


def _for_rank(sharding: Sharding, rank: int) -> Sharding:
    """The sharding of the first `rank` axes."""
    if isinstance(sharding, NamedSharding):
        spec = PartitionSpec(*sharding.spec[:rank])
        return NamedSharding(sharding.mesh, spec)
    return sharding
