"""Best entries by transformers: run by `recording.py` under a Python that has torch.

Llama with SDPA in float32, one thread, the rows and weights that `own_record.py` wrote.
Reads a number of batches a line, answers with their processor seconds.
"""

# torch lives in an environment of its own.
# pyright: reportMissingImports=false
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers


def main() -> None:
    """Serve batches until the input ends."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    model = transformers.LlamaForCausalLM.from_pretrained(
        folder / "hf", dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    tokens = torch.from_numpy(np.load(folder / "tokens.npy").astype(np.int64))
    entries = np.load(folder / "ours.npz")["indices"].shape[-1]

    @torch.inference_mode()
    def batch() -> tuple[torch.Tensor, ...]:
        logits = model(input_ids=tokens, use_cache=False).logits
        best, ids = logits.topk(entries)
        return best, ids, torch.logsumexp(logits, -1)

    best, ids, total = batch()
    largest = best[..., :1]
    np.savez(
        folder / "theirs.npz",
        indices=ids.numpy(),
        logits=(best - largest).numpy(),
        log_normalizers=(total[..., None] - largest).numpy(),
    )
    batch()
    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        before = time.process_time()
        for _ in range(int(line)):
            batch()
        print(time.process_time() - before, flush=True)


if __name__ == "__main__":
    main()
