"""Batches of rows on the devices; which rows is a pure function of (seed, step)."""

import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from runner.errors import UserError
from runner.runtime import Input

Batch = dict[str, jax.Array]


class Rows(Protocol):
    """Source of batches: a dataset, or a dataset with teacher records beside it."""

    def __len__(self) -> int: ...

    def rows(self, numbers: np.ndarray, /) -> dict[str, np.ndarray]:
        """Return the rows `numbers` `[b]`: arrays `[b, ...]`, one of them `mask`."""
        ...


class Batches(Iterator[Batch]):
    """Endless iterator of global batches; a context manager that ends its threads."""

    def __init__(self, iterator: Iterator[Batch], *, close: Callable[[], None]) -> None:
        """Wrap `iterator`, whose threads `close` stops."""
        self._iterator, self._close = iterator, close

    def __next__(self) -> Batch:
        return next(self._iterator)

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the reading threads."""
        self._close()


def batches(
    dataset: Rows,
    *,
    batch_size: int,
    seed: int,
    start: int,
    sharding: Sharding,
    config: Input,
) -> Batches:
    """Return the training batches from step `start` on: arrays `[batch_size, ...]`.

    Each epoch is a new permutation of all rows, and a batch may span the end of one.
    `index` `[batch_size]` int32 holds the row numbers. Each process reads only the rows
    that its own devices hold; neither that, nor the prefetching, nor the number of
    threads changes a batch.

    Args:
      dataset: Rows to read.
      batch_size: Rows in a global batch.
      seed: Of the permutations.
      start: Steps to skip, in constant time.
      sharding: Of the batch's arrays.
      config: Threads and prefetching.

    Raises:
      UserError: The dataset has fewer rows than a batch.
    """
    import grain  # slow to import

    order = _order(dataset, batch_size=batch_size, seed=seed)
    placement = _Placement(sharding, batch_size)
    steps = _Steps(dataset, order, placement, batch_size)
    options = grain.ReadOptions(
        num_threads=config.threads, prefetch_buffer_size=config.prefetch
    )
    iterator = iter(grain.MapDataset.source(steps).to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return Batches(iterator, close=iterator.close)


def first_rows(dataset: Rows, *, batch_size: int, seed: int) -> dict[str, np.ndarray]:
    """Return the rows of the first of `batches`, and their `index`, on the host.

    Raises:
      UserError: The dataset has fewer rows than a batch.
    """
    order = _order(dataset, batch_size=batch_size, seed=seed)
    return _read(dataset, np.array([order(i) for i in range(batch_size)]))


def _order(
    dataset: Rows, *, batch_size: int, seed: int
) -> Callable[[int], int | None]:  # as grain declares it
    """Return the number of the row at each place of a run, epoch after epoch."""
    import grain  # slow to import

    if len(dataset) < batch_size:
        raise UserError(
            f"the data has {len(dataset)} rows, fewer than one batch of {batch_size}"
        )
    own = getattr(dataset, "order", None)  # which a stand-in of a dataset may lack
    if own is not None and (row_at := own(seed)) is not None:
        return row_at
    rows = grain.MapDataset.range(len(dataset)).seed(seed % 2**32).shuffle().repeat()
    return lambda place: rows[place]


def evaluation_batches(
    dataset: Rows,
    *,
    batch_size: int,
    sharding: Sharding,
    limit: int | None = None,
) -> Iterator[Batch]:
    """Yield each row once and in order; masked rows fill up the last batch.

    A row that only fills up has index -1.

    Args:
      dataset: Rows to read.
      batch_size: Rows in a global batch.
      sharding: Of the batch's arrays.
      limit: Largest number of batches, as in `evaluation_rows`.
    """
    numbers = evaluation_rows(dataset, batch_size=batch_size, limit=limit)
    return numbered_batches(dataset, numbers, batch_size=batch_size, sharding=sharding)


def evaluation_rows(
    dataset: Rows, *, batch_size: int, limit: int | None = None
) -> np.ndarray:
    """Return the numbers of the rows that an evaluation reads.

    Args:
      dataset: Rows to read.
      batch_size: Rows in a global batch.
      limit: Largest number of batches. If the dataset has more, their rows are spread
        evenly over all of it, always the same ones.
    """
    count = len(dataset) if limit is None else min(limit * batch_size, len(dataset))
    return np.arange(count) * len(dataset) // max(count, 1)


def numbered_batches(
    dataset: Rows, numbers: np.ndarray, *, batch_size: int, sharding: Sharding
) -> Iterator[Batch]:
    """Yield the rows `numbers`, in order; masked rows fill up the last batch.

    A row that only fills up has index -1.
    """
    placement = _Placement(sharding, batch_size)
    padded = np.full(-(-len(numbers) // batch_size) * batch_size, -1)
    padded[: len(numbers)] = numbers
    for in_batch in padded.reshape(-1, batch_size):
        yield placement(_read(dataset, in_batch[placement.rows]))


class _Steps:
    """The batch of each step by its number, which grain reads in its threads."""

    def __init__(
        self,
        dataset: Rows,
        row_at: Callable[[int], int | None],  # as grain declares it
        placement: "_Placement",
        batch_size: int,
    ) -> None:
        self._dataset, self._row_at = dataset, row_at
        self._placement, self._batch_size = placement, batch_size

    def __len__(self) -> int:
        return sys.maxsize // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        first = index * self._batch_size
        numbers = [self._row_at(first + int(row)) for row in self._placement.rows]
        return self._placement(_read(self._dataset, np.array(numbers)))

    def __repr__(self) -> str:
        return "Steps"


def _read(dataset: Rows, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Return rows and their `index`, `[len(numbers), ...]`; masked where negative."""
    rows = dataset.rows(np.maximum(numbers, 0))
    real = numbers >= 0
    mask = rows["mask"]
    mask = mask & real.reshape(real.shape + (1,) * (mask.ndim - 1))
    return {**rows, "mask": mask, "index": numbers.astype(np.int32)}


class _Placement:
    """Makes global arrays of this process's rows of a batch.

    Attributes:
      rows: Numbers within the batch of the rows that this process's devices hold.
    """

    def __init__(self, sharding: Sharding, batch_size: int) -> None:
        self._sharding, self._batch_size = sharding, batch_size
        slices = _for_rank(sharding, 1).addressable_devices_indices_map((batch_size,))
        local = [range(batch_size)[index[0]] for index in slices.values() if index]
        self.rows = np.unique(np.concatenate([np.asarray(rows) for rows in local]))
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
    """Return the sharding of the first `rank` axes."""
    if isinstance(sharding, NamedSharding):
        spec = PartitionSpec(*sharding.spec[:rank])
        return NamedSharding(sharding.mesh, spec)
    return sharding
