"""Rows that the programs of `generation.py` write: prompts, and their lengths."""

import numpy as np

VOCABULARY, AT_ONCE, SEED = 4096, 16, 0
SHAPES = {
    "dense": {"dim": 192, "layers": 4, "heads": 4, "hidden": 512},
    "135M": {"dim": 576, "layers": 30, "heads": 9, "hidden": 1536},
}
"""Of `configs/dense.py`, float32; and near SmolLM2-135M, bfloat16."""


def shape_of(arguments: list[str]) -> tuple[dict[str, int], str]:
    """Return the shape that the first one names, and the type of its products."""
    name = arguments[0] if arguments else "dense"
    return SHAPES[name], "float32" if name == "dense" else "bfloat16"


def even() -> tuple[list[np.ndarray], np.ndarray]:
    """8 prompts of 32 tokens, 96 tokens after each."""
    draw = np.random.default_rng(SEED)
    return list(draw.integers(0, VOCABULARY, (8, 32))), np.full(8, 96)


def uneven() -> tuple[list[np.ndarray], np.ndarray]:
    """48 prompts of 4 to 48 tokens; 32 tokens after each on average, at most 160."""
    draw = np.random.default_rng(SEED)
    lengths = draw.integers(4, 49, 48)
    prompts = [draw.integers(0, VOCABULARY, n) for n in lengths]
    return prompts, np.minimum(draw.geometric(1 / 32, 48), 160)


WORKLOADS = {"even": even, "uneven": uneven}
