"""Training steps beside those of torch and transformers, on one core each.

    make bench-peers

Both programs stay alive, and take steps in turn: a busy machine is busy for both. They
are started twice, each first once, since the second took up to 5 % longer, whichever it
was. Processor time of a step, medians of 2 x 4 rounds of 4 steps (min - max); 1,024
tokens a step. Targets: the dense step in 0.80 of eager torch and 0.85 of
`torch.compile`, the mixture (4 experts, 2 a token) in 0.75 of Mixtral; distillation
beside a teacher of the same shape in 0.70 of torch with TRL's GKD loss, from 64
recorded entries a token in 0.5 of torch with teacher logits scattered over the
vocabulary. Other arguments choose: `dense-eager offline-eager`, say.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUNDS, STEPS = 4, 4
PAIRS = {
    ("dense", "eager"): 0.80,
    ("dense", "compiled"): 0.85,
    ("moe", "eager"): 0.75,
    ("online", "eager"): 0.70,
    ("offline", "eager"): 0.50,
}


class Worker:
    """A program that takes steps when it is told to."""

    def __init__(self, python: str, script: str, *arguments: str):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as it runs
        self._process = subprocess.Popen(
            [python, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.name = self._line()

    def seconds(self, steps: int = STEPS) -> float:
        """Seconds of a step, as the program counts them."""
        assert self._process.stdin is not None
        print(steps, file=self._process.stdin, flush=True)
        return float(self._line()) / steps

    def end(self) -> None:
        """Close its input, and wait."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            lines = [text.strip() for text in self._errors if text.strip()]
            raise RuntimeError(lines[-1] if lines else f"{self._process.args} ended")
        return line


def main() -> None:
    """Compare with the Python that is named first: one that has torch."""
    for (kind, way), target in PAIRS.items():
        if sys.argv[2:] and f"{kind}-{way}" not in sys.argv[2:]:
            continue
        try:
            compare(sys.argv[1], kind, way, target)
        except RuntimeError as error:
            print(f"{kind}, {way}: not measured: {error}")


def compare(python: str, kind: str, way: str, target: float) -> None:
    """Print one pair."""
    commands = {
        "ours": (sys.executable, "own_step.py", kind),
        "theirs": (python, "torch_step.py", kind, way),
    }
    pairs = []
    for order in (("ours", "theirs"), ("theirs", "ours")):
        workers = {name: Worker(*commands[name]) for name in order}
        ours, theirs = workers["ours"], workers["theirs"]
        pairs += [(ours.seconds(), theirs.seconds()) for _ in range(ROUNDS)]
        ours.end()
        theirs.end()
    names = ours.name, theirs.name
    ratios = [a / b for a, b in pairs]
    middle = [1e3 * statistics.median(x) for x in zip(*pairs, strict=True)]
    print(
        f"{kind}, {way}: {middle[0]:.0f} ms ({names[0]}) and {middle[1]:.0f} ms "
        f"({names[1]}): {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} - {max(ratios):.2f}), target {target}",
        flush=True,
    )


if __name__ == "__main__":
    main()
