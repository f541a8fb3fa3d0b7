"""The step, compiled; or what the compiler says where it does not fit."""

import dataclasses
import re
import time

import jax

from runner.prepared import Prepared
from runner.topology import Planned


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of it.

    program: None where the compiler found no room for it.
    refused: then its own words.
    seconds: that it took.
    """

    program: jax.stages.Compiled | None
    refused: str
    seconds: float


def attempt(prepared: Prepared, planned: Planned) -> Attempt:
    """Compile the step for the devices of the mesh; nothing runs there."""
    lowered = prepared.step.compiled.lower(*prepared.abstract_arguments())
    begin = time.monotonic()
    program, refused = None, ""
    try:
        program = lowered.compile(compiler_options=dict(planned.options))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = re.search(r"Used \S+ of \S+ \w+", str(error))
        refused = found[0] if found else str(error).splitlines()[0]
    return Attempt(program, refused, time.monotonic() - begin)
