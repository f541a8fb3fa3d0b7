"""Rows of the table: a step of ours beside one of torch, both alive and in turn.

python -m tests.gpu.steps labels 135M 2048 eager
"""

import statistics
import sys
from pathlib import Path

from tests.gpu import settings
from tests.peers.steps import Worker

HERE = Path(__file__).resolve().parent
TARGETS = {"eager": "0.80", "compiled": "0.85", "flash": "0.80", "weights": "0.80"}
LESSONS = {"online": "0.70", "offline": "0.50"}
STEPS = 4


def main(kind: str, shape_name: str, length: int, way: str) -> None:
    """Print one row; ours alone where torch does not run."""
    current = settings.current()
    shape, tokens = current.shape(shape_name), current.length(length)
    arguments = kind, shape_name, str(length)
    work = f"step of {kind}, {shape_name}, T = {length:,}, {way}"
    ours = Worker(sys.executable, str(HERE / "own_step.py"), *arguments)
    try:
        if not current.torch:
            raise RuntimeError("no Python with torch was named")
        script = str(HERE / "torch_step.py")
        theirs = Worker(current.torch, script, *arguments, way)
        names, reason = f"{theirs.name}", ""
    except (RuntimeError, OSError) as error:
        theirs, names, reason = None, "", f"not run: {error}"
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(current.rounds()):
        times["ours"].append(ours.seconds(STEPS))
        if theirs is not None:
            times["theirs"].append(theirs.seconds(STEPS))
    many = current.rows(shape, tokens) * tokens

    def rate(name: str) -> float:
        return many / statistics.median(times[name])

    flops = shape.flops(tokens) if kind == "labels" else 0

    def told(name: str) -> str:
        share = f", {current.share(rate(name), flops)}" if flops else ""
        return f"{rate(name):,.0f} tokens/s{share}"

    settings.row(
        work,
        f"{told('ours')}; {ours.name}",
        reason or f"{told('theirs')}; {names}",
        "" if reason else settings.ratio(times, "ours", "theirs"),
        LESSONS.get(kind, TARGETS[way]),
    )
    ours.end()
    if theirs is not None:
        theirs.end()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
