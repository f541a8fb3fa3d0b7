"""`generate` of transformers: run by `generation.py` under a Python that has torch.

A Llama of the shape of `configs/dense.py`, float32, one thread, or of the one that is
named, on a GPU where torch finds one; greedy, with a cache. Prompts are padded on the
left, in batches, each until its last row has ended: rows end where `writing` says,
through a criterion a row. Reads a number of rounds a line, answers with their seconds.
"""

# torch lives in an environment of its own.
# pyright: reportMissingImports=false
import sys
import time

import torch
import transformers

from tests.peers.writing import AT_ONCE, VOCABULARY, WORKLOADS, shape_of

SHAPE, DTYPE = shape_of(sys.argv[2:])
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Limits(transformers.StoppingCriteria):
    """A row ends after its own number of tokens."""

    def __init__(self, width: int, limits: torch.Tensor):
        self._ends = width + limits

    def __call__(
        self, input_ids: torch.Tensor, scores: object, **_: object
    ) -> torch.Tensor:
        """Return which rows have ended."""
        return input_ids.shape[1] >= self._ends


def main() -> None:
    """Serve rounds until the input ends."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=SHAPE["dim"],
            intermediate_size=SHAPE["hidden"],
            num_hidden_layers=SHAPE["layers"],
            num_attention_heads=SHAPE["heads"],
            num_key_value_heads=SHAPE["heads"],
            max_position_embeddings=512,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    model = model.to(DEVICE, getattr(torch, DTYPE))
    prompts, limits = WORKLOADS[sys.argv[1]]()

    @torch.inference_mode()
    def write() -> None:
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            width = max(map(len, some))
            ids = torch.zeros((len(some), width), dtype=torch.int64, device=DEVICE)
            mask = torch.zeros_like(ids)
            for i, prompt in enumerate(some):
                ids[i, width - len(prompt) :] = torch.as_tensor(prompt, device=DEVICE)
                mask[i, width - len(prompt) :] = 1
            ends = torch.as_tensor(limits[start : start + AT_ONCE], device=DEVICE)
            model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=int(ends.max()),
                do_sample=False,
                stopping_criteria=[Limits(width, ends)],
            )

    write()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(versions, flush=True)
    for line in sys.stdin:
        before = clock()
        for _ in range(int(line)):
            write()
        print(clock() - before, flush=True)


def clock() -> float:
    """Seconds, once the device has done what it was told; of processor on a CPU."""
    if DEVICE == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
