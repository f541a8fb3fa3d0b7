"""The exceptions a user sees without a traceback."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Something the user can mend. One to three lines; ends the program with code 2."""


class PeerLost(Exception):
    """Another process of the run has ended, or is out of reach. Ends ours with 6."""

    code = 6


class NotFinite(ArithmeticError):
    """A metric of a step is NaN or infinite. Ends the program with code 1."""


@contextlib.contextmanager
def prefixed(place: str) -> Iterator[None]:
    """Put `place: ` before the message of a `UserError` that arises within."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


class Corrupted(ArithmeticError):
    """A step gave other bits when it was run again. Ends the program with code 5."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or the valid names when none is near."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    if not choices:
        return ""
    names = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f"; one of: {names}"
