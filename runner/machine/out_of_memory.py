"""Memory that devices and host do not have, said in one line."""

import contextlib
import re
from collections.abc import Iterator

import jax

from runner.errors import UserError

_SIZE = re.compile(
    r"(?:allocat\w*|Unable to allocate)\D{0,40}?([\d.]+ ?[KMGT]?i?B|\d+)"
)
ADVICE = (
    "--gin.step.microbatches, --gin.step.remat and more devices divide it, --dry_run "
    "shows what a step takes"
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Wrap the part of a program that places arrays and runs steps.

    Raises:
      UserError: An array or a program does not fit; with the bytes that were wanted.
    """
    try:
        yield
    except MemoryError as error:  # of NumPy, on the host
        raise _refusal("this machine", error) from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        device = jax.devices()[0].device_kind
        raise _refusal(f"a device ({device})", error) from error


def _refusal(place: str, error: Exception) -> UserError:
    return UserError(f"out of memory: {place} does not have {_wanted(error)}; {ADVICE}")


def _wanted(error: Exception) -> str:
    """Return the bytes that an allocation wanted, as the error has them."""
    match = _SIZE.search(str(error))
    if match is None:
        return "the room: " + (str(error).strip() or "no more is known").splitlines()[0]
    size = match[1]
    return f"{int(size):,} bytes" if size.isdigit() else size
