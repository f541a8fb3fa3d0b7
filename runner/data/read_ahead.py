"""Work on one item in a background thread, while the one before it is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def one_ahead(apply: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield `apply(item)` of each item, in order, with the next one under way.

    Args:
      apply: Runs in one background thread; worth it where it leaves Python's lock.
      items: Read in the calling thread, one ahead.
    """
    with ThreadPoolExecutor(1) as thread:
        pending = None
        for item in items:
            following = thread.submit(apply, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
