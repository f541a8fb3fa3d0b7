"""How far a reader travels through our files to follow one train step.

    cd CHECKOUT && PYTHONPATH=. python tests/benchmarks/step_moves.py

Python's profiler watches while one step of a tiny student is traced, cross-entropy and
z-loss, on one device. Ours are `losses`, `models` and `runner` of the directory that it
is run in.

files: of ours, in which a function is called.
calls: of our functions; comprehensions and resumed generators count, as they do for it.
moves: from one of our files to another, by a call or a return; what lies between them
       that is not ours does not count.
depth: the most calls of ours that are open at once.

No clock: the numbers are the same on every machine.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp

OURS = tuple(str(Path.cwd() / name) + os.sep for name in ("losses", "models", "runner"))
ROWS, LENGTH, VOCABULARY = 4, 16, 64


def step_to_trace(mlp: Callable[..., Any] | None) -> tuple[Callable[..., Any], Any]:
    """The compiled step and the shapes that it takes: all that knows how it is made."""
    import losses
    import models
    from runner import optimizers, runtime
    from runner.machine import mesh
    from runner.state.trainable import TrainModules
    from runner.step.compiled_step import CompiledStep

    fields = {} if mlp is None else {"mlp": mlp}
    student = functools.partial(
        models.Transformer,
        vocab_size=VOCABULARY,
        dim=16,
        num_layers=1,
        num_heads=2,
        **fields,
    )
    terms = [
        losses.LossTerm(name="ce", loss=losses.CrossEntropy()),
        losses.LossTerm(name="z_loss", loss=losses.ZLoss(), weight=1e-4),
    ]
    config = runtime.Runtime()
    step = CompiledStep(
        TrainModules(student, terms, optimizers.adamw(1e-3)),
        mesh=mesh.over(config.mesh, jax.devices()[:1]),
        config=config,
        seed=0,
    )
    return step.compiled, step.abstract_arguments(batch())


def experts() -> Callable[..., Any]:
    """The layer of a mixture."""
    import models

    return functools.partial(models.MoE, num_experts=4, hidden_dim=32)


def batch() -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of text."""
    names = ("tokens", "segment_ids", "positions", "targets")
    tokens = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
    return dict.fromkeys(names, tokens) | {
        "mask": jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.bool_),
        "index": jax.ShapeDtypeStruct((ROWS,), jnp.int32),
    }


@dataclasses.dataclass
class Journey:
    """What the profiler saw."""

    files: set[str] = dataclasses.field(default_factory=set)
    calls: int = 0
    moves: int = 0
    depth: int = 0
    _open: list[FrameType] = dataclasses.field(default_factory=list)
    _in: str = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """A profiler: see `sys.setprofile`."""
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            self._open.append(frame)
            self.calls += 1
            self.files.add(frame.f_code.co_filename)
            self.depth = max(self.depth, len(self._open))
        elif event == "return" and self._open and self._open[-1] is frame:
            self._open.pop()
        else:
            return
        if self._open:
            here = self._open[-1].f_code.co_filename
            self.moves += self._in not in ("", here)
            self._in = here


def followed(mlp: Callable[..., Any] | None) -> Journey:
    """One step traced under the profiler."""
    step, arguments = step_to_trace(mlp)
    journey = Journey()
    sys.setprofile(journey)
    try:
        jax.eval_shape(step, *arguments)
    finally:
        sys.setprofile(None)
    return journey


def main() -> None:
    """Prints the table."""
    jax.config.update("jax_platforms", "cpu")
    found = {"dense": followed(None), "experts": followed(experts())}
    print(f"{'one step, traced':<20}" + "".join(f"{name:>10}" for name in found))
    for what in ("files", "calls", "moves", "depth"):
        values = [getattr(journey, what) for journey in found.values()]
        shown = [len(x) if isinstance(x, set) else x for x in values]
        print(f"{what:<20}" + "".join(f"{x:>10,}" for x in shown))


if __name__ == "__main__":
    main()
