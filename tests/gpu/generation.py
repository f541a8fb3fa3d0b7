"""Rows of the table: writing, beside `generate` of transformers and a scan by hand."""

import statistics
import sys

from tests.gpu import settings
from tests.peers.steps import HERE, Worker
from tests.peers.writing import WORKLOADS


def main() -> None:
    """Print a row a peer; 8 rows of 96 tokens."""
    current = settings.current()
    shape = "dense" if current.tiny else "135M"
    tokens = int(WORKLOADS["even"]()[1].sum())
    hand = (sys.executable, str(HERE / "own_generate.py"), "scan", "even", shape)
    torch = (current.torch, str(HERE / "torch_generate.py"), "even", shape)
    for peer, command, target in (("hand", hand, "1.2"), ("torch", torch, "3")):
        work = f"writing, 8 rows of 96 tokens, {shape}"
        if not command[0]:
            settings.row(work, "", f"not run: no Python for {peer} was named")
            continue
        compare(work, command, tokens, shape, target)


def compare(
    work: str, command: tuple[str, ...], tokens: int, shape: str, target: str
) -> None:
    """Print one row."""
    script = str(HERE / "own_generate.py")
    ours = Worker(sys.executable, script, "refilled", "even", shape)
    try:
        other = Worker(*command)
    except (RuntimeError, OSError) as error:
        settings.row(work, ours.name, f"not run: {error}", "", target)
        ours.end()
        return
    rounds = range(settings.current().rounds())
    pairs = [(ours.seconds(1), other.seconds(1)) for _ in rounds]
    ours.end()
    other.end()
    own, theirs = (tokens / statistics.median(x) for x in zip(*pairs, strict=True))
    settings.row(
        work,
        f"{own:,.0f} tokens/s; {ours.name}",
        f"{theirs:,.0f} tokens/s; {other.name}",
        settings.spread([b / a for a, b in pairs]),
        f"{target} and more",
    )


if __name__ == "__main__":
    main()
