"""A training step of transformers: run by `steps.py` under a Python that has torch.

The shape of `configs/dense.py`, or with `moe` that of `configs/moe.py`, as Llama and
Mixtral: float32, clipping by global norm, AdamW, one thread. Reads a number of steps a
line, answers with their processor seconds.
"""

# torch lives in an environment of its own.
# pyright: reportMissingImports=false
import sys
import time

import torch
import transformers

SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "use_cache": False,
}
ROWS, LENGTH = 8, 128


def main() -> None:
    """Serve steps until the input ends."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = built(sys.argv[1]).train()
    run = torch.compile(model) if sys.argv[2] == "compiled" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    tokens = torch.randint(SHAPE["vocab_size"], (ROWS, LENGTH))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        run(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"torch {torch.__version__}, {parameters:,} parameters", flush=True)
    for line in sys.stdin:
        before = time.process_time()
        for _ in range(int(line)):
            step()
        print(time.process_time() - before, flush=True)


def built(kind: str) -> torch.nn.Module:
    """Return the model with fresh weights."""
    if kind == "dense":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
    config = transformers.MixtralConfig(
        **SHAPE | {"intermediate_size": 256},  # of an expert
        num_local_experts=4,
        num_experts_per_tok=2,
        output_router_logits=True,
    )
    return transformers.MixtralForCausalLM(config)


if __name__ == "__main__":
    main()
