"""The step, compiled; or what the compiler says where it does not fit."""

import dataclasses
import time

import jax

from runner.machine.topology import Planned
from runner.train.setup import Setup

_FULL = "RESOURCE_EXHAUSTED:"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """The result of compiling a step.

    Attributes:
      program: None where the compiler found no room for it.
      refused: The compiler's reason then; otherwise empty.
      seconds: The time that it took.
    """

    program: jax.stages.Compiled | None
    refused: str
    seconds: float


def attempt(setup: Setup, planned: Planned) -> Attempt:
    """Compile the step for the devices of the mesh; nothing runs there."""
    lowered = setup.step.compiled.lower(*setup.abstract_arguments())
    begin = time.monotonic()
    program, refused = None, ""
    try:
        program = lowered.compile(compiler_options=dict(planned.options))
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith(_FULL):
            raise
        refused = str(error).removeprefix(_FULL).splitlines()[0].strip()
    return Attempt(program, refused, time.monotonic() - begin)
