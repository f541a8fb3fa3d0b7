"""A training step of transformers: run by `steps.py` under a Python that has torch.

The shape of `configs/dense.py`, or with `moe` that of `configs/moe.py`, as Llama and
Mixtral: float32, clipping by global norm, AdamW, one thread. `online` learns from a
second Llama beside it by the loss of TRL's `GKDTrainer`, `offline` from 64 stored
logits a token, scattered over the vocabulary, and from labels at half the weight. Reads
a number of steps a line, answers with their processor seconds.
"""

# torch lives in an environment of its own.
# pyright: reportMissingImports=false
import sys
import time

import torch
import torch.nn.functional as F
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

    lesson = LESSONS.get(sys.argv[1], lambda: labels)()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        lesson(run, tokens).backward()
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


def labels(model, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token, with what else the model adds."""
    return model(input_ids=tokens, labels=tokens).loss


def online():
    """The generalised JSD to a second model."""
    teacher = built("dense").eval()
    return lambda model, tokens: jsd(model, teacher, tokens)


def jsd(model, teacher, tokens: torch.Tensor) -> torch.Tensor:
    """The generalised JSD at 0.5 to a teacher, as TRL's `GKDTrainer` computes it.

    Source: `GKDTrainer.generalized_jsd_loss` of trl.experimental.gkd 1.16.0: on random
    logits, with labels that all count, values and gradients are equal.
    """
    student_logits = model(input_ids=tokens).logits[:, :-1]
    with torch.no_grad():
        teacher_logits = teacher(input_ids=tokens).logits[:, :-1]
    student = F.log_softmax(student_logits, dim=-1)
    target = F.log_softmax(teacher_logits, dim=-1)
    beta = torch.tensor(0.5)
    mixture = torch.logsumexp(
        torch.stack([student + torch.log(1 - beta), target + torch.log(beta)]),
        dim=0,
    )
    to_teacher = F.kl_div(mixture, target, reduction="none", log_target=True)
    to_student = F.kl_div(mixture, student, reduction="none", log_target=True)
    jsd = beta * to_teacher + (1 - beta) * to_student
    return jsd.sum() / jsd[..., 0].numel()


def offline():
    """The forward KL to 64 stored logits a token, and labels at half the weight."""
    shape = (ROWS, LENGTH, SHAPE["vocab_size"])
    stored, ids = torch.randn(shape).topk(64)
    return lambda model, tokens: scattered(model, tokens, ids, stored, shape)


def scattered(
    model,
    tokens: torch.Tensor,
    ids: torch.Tensor,
    stored: torch.Tensor,
    shape: tuple[int, int, int],
) -> torch.Tensor:
    """The forward KL to stored logits, scattered to `shape`, and half of labels."""
    dense = torch.full(shape, -1e9, device=ids.device).scatter_(-1, ids, stored)
    result = model(input_ids=tokens, labels=tokens)
    teacher = F.log_softmax(dense, dim=-1).flatten(0, 1)
    student = F.log_softmax(result.logits, dim=-1).flatten(0, 1)
    kl = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return 0.5 * result.loss + kl


LESSONS = {"online": online, "offline": offline}


def built(kind: str) -> torch.nn.Module:
    """Return the model with fresh weights."""
    if kind != "moe":
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
