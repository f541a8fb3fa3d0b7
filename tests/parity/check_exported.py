"""Exported models in transformers and in llama.cpp, against our logits.

    python tests/parity/check_exported.py FOLDER

Runs in the environment of `make parity`, over what `export.py` wrote. Over all
documents: the largest difference of a logit in transformers, float32; in llama.cpp, by
the package xllamacpp, the largest KL(ours, its) of the next token, and whether the
tokens that follow greedily are those of transformers.
"""

# These libraries are in .venv-parity, which the linters do not see.
# pyright: reportMissingImports=false

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers
import transformers.utils.logging as messages
import xllamacpp
from safetensors.numpy import load_file

LOGITS = 1e-4
# Nats. llama.cpp looks Gemma's gelu up in a table of float16: 1e-6; the rest is 1e-11.
DIVERGENCE = 1e-5
FOLLOWING = 6
CONTEXT = 256
VOCAB = 512  # at least as many as a model here has
Documents = list[tuple[list[int], np.ndarray]]


def main(folder: Path) -> None:
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    names = ("transformers", "torch", "xllamacpp")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))
    print(f"{'model':28} {'logits':>9} {'KL':>9} {'greedy':>7}")
    wrong = []
    for model in sorted(folder.iterdir()):
        documents = list(split(load_file(model / "expected.safetensors")))
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            model / "hf", dtype=torch.float32, attn_implementation="eager"
        )
        logits = max(difference(loaded, *document) for document in documents)
        right = logits < LOGITS
        line = f"{model.name:28} {logits:9.1e}"
        if (model / "model.gguf").exists():
            server = serve(model / "model.gguf")
            if (model / "texts.json").exists():
                # Its tokens are bytes, and an answer leaves out halves of characters.
                same = same_ids(model, server)
                line += f"  same ids of texts: {same}"
            else:
                same, largest = compare(server, loaded, apart(loaded, documents))
                line += f" {largest:9.1e} {same!s:>7}"
                same &= largest < DIVERGENCE
            right &= same
        print(line, flush=True)
        wrong += [] if right else [model.name]
    if wrong:
        raise SystemExit(f"{len(wrong)} differ: {', '.join(wrong)}")


def split(rows: dict[str, np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Tokens and logits of each document of packed rows."""
    for tokens, segments, logits in zip(
        rows["tokens"], rows["segment_ids"], rows["logits"], strict=True
    ):
        for segment in range(1, segments.max() + 1):
            at = segments == segment
            yield tokens[at].tolist(), logits[at]


def apart(loaded, documents: Documents) -> Documents:
    """Documents whose rotations are those that llama.cpp takes for its context.

    transformers (and we) choose longrope's factors by the length of a text, llama.cpp
    by the positions that it was asked for, `CONTEXT`.
    """
    rope = getattr(loaded.config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return documents
    original = rope["original_max_position_embeddings"]
    long = original < CONTEXT
    return [(ids, x) for ids, x in documents if (len(ids) > original) == long]


def compare(server, loaded, documents) -> tuple[bool, float]:
    """Whether documents go on as in transformers, and the largest divergence."""
    same, largest = True, 0.0
    for tokens, ours in documents:
        ids, log_probs = following(server, tokens)
        largest = max(largest, divergence(ours[-1], log_probs))
        same &= ids == greedy(loaded, tokens)[: len(ids)]
    return same, largest


def same_ids(model: Path, server) -> bool:
    """Whether texts have our ids in transformers, and in llama.cpp go on as the ids."""
    texts = json.loads((model / "texts.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(model / "hf")
    same = [tokenizer(text)["input_ids"] for text in texts["texts"]] == texts["ids"]
    for text, ids in zip(texts["texts"], texts["gguf_ids"], strict=True):
        of_text, of_ids = (following(server, prompt) for prompt in (text, ids))
        same &= of_text[0] == of_ids[0] and np.array_equal(of_text[1], of_ids[1])
    return same


@torch.no_grad()
def difference(model, tokens: list[int], ours: np.ndarray) -> float:
    theirs = model(torch.tensor([tokens])).logits[0].numpy()
    return float(np.abs(theirs - ours).max())


@torch.no_grad()
def greedy(model, tokens: list[int]) -> list[int]:
    ids = list(tokens)
    for _ in range(FOLLOWING):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(tokens) :]


def serve(file: Path):
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = CONTEXT, 1, 0
    params.cpuparams.n_threads = 2
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = (
        xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    params.warmup, params.verbosity = False, -1
    return xllamacpp.Server(params)


def following(server, prompt: list[int] | str) -> tuple[list[int], np.ndarray]:
    """The tokens that follow, up to an end, and log-probabilities of the first."""
    answer = server.handle_completions(
        {
            "prompt": prompt,
            "n_predict": FOLLOWING,
            "temperature": 0,
            "n_probs": VOCAB,
            "cache_prompt": False,
        }
    )
    content = answer["choices"][0]["logprobs"]["content"]
    log_probs = np.full(len(content[0]["top_logprobs"]), -np.inf)
    for entry in content[0]["top_logprobs"]:
        log_probs[entry["id"]] = entry["logprob"]
    return [entry["id"] for entry in content], log_probs


def divergence(logits: np.ndarray, log_probs: np.ndarray) -> float:
    """KL(ours, theirs), nats; both are normalized in float64."""
    ours, theirs = (
        values.astype(np.float64) - np.logaddexp.reduce(values.astype(np.float64))
        for values in (logits, log_probs)
    )
    return float(np.sum(np.exp(ours) * (ours - theirs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
