"""A function of many items at once, in threads that no exit waits for."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    fn: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    at_once: int,
    give_up: Callable[[], None],
) -> list[Result]:
    """Return `fn` of each item, in order.

    Args:
      fn: may wait long.
      items: of one call each.
      at_once: calls at a time, at most.
      give_up: called when one raises: ends the waiting of the others.

    Raises:
      BaseException: the first that a call raised.
    """
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    places, lock = iter(range(len(items))), threading.Lock()

    def work() -> None:
        while not errors:
            with lock:
                place = next(places, None)
            if place is None:
                return
            try:
                results[place] = fn(items[place])
            except BaseException as error:
                errors.append(error)
                give_up()

    # Daemons: the end of a run does not wait for a server.
    threads = [
        threading.Thread(target=work, daemon=True)
        for _ in range(min(at_once, len(items)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(items))]
