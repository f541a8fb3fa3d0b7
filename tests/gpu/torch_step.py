"""A training step of transformers on a GPU: run by `steps.py` under its own Python.

A Llama with a tied head, float32 parameters under autocast to bfloat16 (`weights`: all
of it in bfloat16), clipping by global norm, fused AdamW; rows of one document each.
Attention is PyTorch's, by its FlashAttention alone, or with `flash` that of the package
`flash_attn`. `compiled` is the same under `torch.compile`. `online` and `offline` are
the lessons of `tests/peers/torch_step.py`. Answers as that does, in seconds of the
wall.
"""

# torch lives in an environment of its own.
# pyright: reportMissingImports=false
import contextlib
import sys
import time

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.gpu import settings
from tests.peers import torch_step

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main(kind: str, shape_name: str, length: int, way: str) -> None:
    """Serve steps until the input ends."""
    current = settings.current()
    if DEVICE == "cpu":
        torch.set_num_threads(1)
    if DEVICE == "cpu" and not current.tiny:
        sys.exit("torch finds no GPU")
    shape, length = current.shape(shape_name), current.length(length)
    rows = current.rows(shape, length)
    model = built(shape, length, way).train()
    run = torch.compile(model) if way == "compiled" else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=DEVICE == "cuda"
    )
    tokens = torch.randint(shape.vocabulary, (rows, length), device=DEVICE)
    lesson = lessons(kind, shape, tokens)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision(way), kernel(way):
            loss = lesson(run)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def seconds(steps: int) -> float:
        before = clock()
        for _ in range(steps):
            step()
        return clock() - before

    seconds(2)
    memory = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    print(f"torch {torch.__version__}, {way}, {memory / 2**30:.1f} GiB", flush=True)
    for line in sys.stdin:
        print(seconds(int(line)), flush=True)


def clock() -> float:
    """Seconds, once the device has done what it was told; of processor on a CPU."""
    if DEVICE == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def built(shape: settings.Shape, length: int, way: str) -> torch.nn.Module:
    """Return a model with fresh weights."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.dim,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        use_cache=False,
    )
    config._attn_implementation = "flash_attention_2" if way == "flash" else "sdpa"
    model = transformers.LlamaForCausalLM(config).to(DEVICE)
    return model.to(torch.bfloat16) if way in ("weights", "flash") else model


def precision(way: str) -> contextlib.AbstractContextManager:
    """Autocast, where the weights are float32."""
    if way in ("weights", "flash"):
        return contextlib.nullcontext()
    return torch.autocast(DEVICE, torch.bfloat16)


def kernel(way: str) -> contextlib.AbstractContextManager:
    """FlashAttention alone, so that nothing slower is taken in silence."""
    if way in ("flash", "compiled") or DEVICE == "cpu":
        return contextlib.nullcontext()
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION)


def lessons(kind: str, shape: settings.Shape, tokens: torch.Tensor):
    """Return the loss of a model, as `kind` has it."""
    if kind == "labels":
        return lambda model: torch_step.labels(model, tokens)
    if kind == "online":
        teacher = built(shape, tokens.shape[1], "weights").eval()
        return lambda model: torch_step.jsd(model, teacher, tokens)
    stored = torch.randn((*tokens.shape, 64), device=DEVICE)
    ids = torch.randint(shape.vocabulary, stored.shape, device=DEVICE)
    size = (*tokens.shape, shape.vocabulary)
    return lambda model: torch_step.scattered(model, tokens, ids, stored, size)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
