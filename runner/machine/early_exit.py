"""Actions before the program ends with an error code.

They are registered by what they undo, so that `runner.main` need not import it.
"""

from collections.abc import Callable

_ACTIONS: list[Callable[[int], None]] = []


def register(action: Callable[[int], None]) -> None:
    """Have `run` call `action(code)`; a second registration changes nothing."""
    if action not in _ACTIONS:
        _ACTIONS.append(action)


def run(code: int) -> None:
    """Call the registered actions if `code` is an error; one may end the process."""
    if code:
        for action in _ACTIONS:
            action(code)
