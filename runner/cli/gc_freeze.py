"""The garbage collector, which stands still while a command starts.

Importing jax, flax and optax makes 230,000 objects, and all of them stay. To walk them
time and again while they are made, and once more at exit, is a third of the processor
time of `--print_config`; the memory at its peak is the same without.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def hold() -> Iterator[None]:
    """Collect nothing until `release`, or the end."""
    gc.disable()
    try:
        yield
    finally:
        release()


def release() -> None:
    """Collect again, but never walk what is there by now; nothing unless `hold`."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
