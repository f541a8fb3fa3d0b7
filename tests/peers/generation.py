"""Generation beside that of transformers, and beside one scan by hand.

    make bench-peers

All programs stay alive and write in turn. Processor time of a round, medians of 5
rounds (min - max of the ratios). `even`: 8 rows of 96 tokens; `uneven`: 48 rows, 16 at
a time. Targets: no slower than transformers on uneven rows; on even ones 3 times as
fast, and 1.2 times the scan.
"""

import statistics
import sys

from tests.peers.steps import Worker
from tests.peers.writing import WORKLOADS

ROUNDS = 5


def main() -> None:
    """Compare with the Python that is named first: one that has torch."""
    theirs = (sys.argv[1], "torch_generate.py")
    by_hand = (sys.executable, "own_generate.py", "scan")
    for workload, peer in (("uneven", theirs), ("even", theirs), ("even", by_hand)):
        try:
            compare(workload, *peer)
        except RuntimeError as error:
            print(f"{workload}, {peer[1]}: not measured: {error}", flush=True)


def compare(workload: str, *peer: str) -> None:
    """Print one pair."""
    ours = Worker(sys.executable, "own_generate.py", "refilled", workload)
    other = Worker(*peer, workload)
    pairs = [(ours.seconds(1), other.seconds(1)) for _ in range(ROUNDS)]
    ours.end()
    other.end()
    ratios = [theirs / own for own, theirs in pairs]
    tokens = int(WORKLOADS[workload]()[1].sum())
    rates = [tokens / statistics.median(x) for x in zip(*pairs, strict=True)]
    print(
        f"{workload}: {rates[0]:,.0f} tokens a second ({ours.name}) and "
        f"{rates[1]:,.0f} ({other.name}): {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} - {max(ratios):.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
