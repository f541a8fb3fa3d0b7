"""What nine tenths of a student that are frozen save: memory and time of a step.

    make bench ONLY=frozen

Twelve layers, of which the last one is trained, or adapters of rank 8 of attention,
beside the same student trained whole, by turns in one process; AdamW. Gradients and
optimiser state are counted by what the step holds, temporaries by the compiler. The
targets: 0.15 of the memory of gradients and optimiser, 0.75 of the processor time.
"""

import functools
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import losses
import models
from runner import data, optimizers, runtime
from runner.dry_run.memory import local
from runner.experiment import Experiment
from runner.train.setup import Setup
from tests.benchmarks import timed_step

ROUNDS, LAYERS, DIM, LENGTH, ROWS = 7, 12, 256, 128, 8
TARGETS = {"gradients and optimiser": 0.15, "step": 0.75}
TEXT = (
    "Nine tenths of it stand still, and only what is left learns anything new. " * 400
)


def main() -> None:
    """Prints a row a student, and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.txt"
        file.write_text(TEXT)
        steps = {
            "all": Step(student(file)),
            "frozen": Step(student(file, trainable=f"blocks/{LAYERS - 1}/*")),
            "adapters": Step(student(file, wrapped=models.LoRA)),
        }
        times = timed_step.in_turn({n: x.timed.run for n, x in steps.items()}, ROUNDS)
    print(
        f"{'trained':<10}{'parameters':>12}{'state MB':>10}{'temp MB':>10}{'step s':>8}"
    )
    for name, step in steps.items():
        seconds = statistics.median(times[name])
        print(
            f"{name:<10}{step.trained:>12,}{step.state / 1e6:>10.1f}"
            f"{step.scratch / 1e6:>10.1f}{seconds:>8.3f}"
        )
    missed = []
    for which in ("frozen", "adapters"):
        one, whole = steps[which], steps["all"]
        ratio = {
            "gradients and optimiser": one.state / whole.state,
            "temporaries": one.scratch / whole.scratch,
            "step": statistics.median(timed_step.ratios(times[which], times["all"])),
        }
        for name, value in ratio.items():
            target = f"  (target {TARGETS[name]})" if name in TARGETS else ""
            print(f"{which}, {name}: {value:.2f}{target}")
        missed += [
            f"{which}, {name}" for name, most in TARGETS.items() if ratio[name] > most
        ]
    if missed:
        sys.exit(f"above the target: {', '.join(missed)}")


def student(
    file: Path,
    *,
    trainable: str | None = None,
    wrapped: Callable[..., Any] | None = None,
) -> Setup:
    """The student on a text, prepared."""
    documents = data.TextFiles(files=(str(file),))
    model = functools.partial(
        models.Transformer, vocab_size=512, dim=DIM, num_layers=LAYERS, num_heads=4
    )
    return Experiment(
        student=model if wrapped is None else functools.partial(wrapped, model=model),
        losses=[losses.LossTerm(name="ce", loss=losses.CrossEntropy())],
        train_data=data.TokenizedText(
            documents=documents,
            tokenizer=data.ByteBPE(documents=documents, vocab_size=300),
            sequence_length=LENGTH,
        ),
        optimizer=optimizers.adamw(1e-3),
        num_steps=100,
        batch_size=ROWS,
        trainable=trainable,
    ).prepare(runtime.Runtime())


class Step:
    """A compiled step, and what it takes.

    Attributes:
      trained: parameters.
      state: bytes of gradients and optimiser.
      scratch: bytes of the compiler's temporaries.
      timed: the step itself.
    """

    def __init__(self, setup: Setup):
        state = setup.step.state
        self.trained = sum(x.size for x in jax.tree.leaves(state.params))
        self.state = local(state.params) + local(state.opt_state)
        self.timed = timed_step.TimedStep(setup)
        self.scratch = self.timed.scratch()
        self.timed.run()


if __name__ == "__main__":
    main()
