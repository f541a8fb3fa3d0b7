"""Texts sampled from a student, to look at."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from models import Transformer
from models.decoding.generate import generate
from runner.data.dataset import Dataset
from runner.data.text.vocabulary import Vocabulary
from runner.state.train_state import TrainState
from runner.state.trainable import TrainModules

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 2, 24, 64
TEMPERATURE = 0.7


@dataclasses.dataclass(frozen=True)
class Sample:
    """A prompt and the student's continuation of it."""

    prompt: str
    text: str


class Sampler:
    """Continuations of the first tokens of the first rows of a dataset.

    Drawn at a temperature of 0.7, always with the same key: samples of two states
    differ by their parameters alone. A student that is no `Transformer` does not write,
    and none writes of images.
    """

    def __init__(self, modules: TrainModules, dataset: Dataset):
        self._modules = modules
        vocabulary = dataset.vocabulary
        self._vocabulary = vocabulary if isinstance(vocabulary, Vocabulary) else None
        rows = range(min(PROMPTS, len(dataset)) if self._vocabulary else 0)
        self._prompts = [dataset[row]["tokens"][:PROMPT_TOKENS] for row in rows]

    def __call__(self, state: TrainState) -> Sequence[Sample]:
        """Return a continuation of each prompt, by the state's student."""
        student: Any = self._modules.student(
            state.params["student"], state.variables["student"]
        )
        if self._vocabulary is None or not isinstance(student, Transformer):
            return []
        decode = self._vocabulary.decode
        # One key for all steps, so that samples differ by the student alone.
        new = generate(
            student,
            np.stack(self._prompts),
            num_tokens=NEW_TOKENS,
            temperature=TEMPERATURE,
            key=jax.random.key(0),
        )
        return [
            Sample(prompt=decode(prompt), text=decode(np.asarray(tokens)))
            for prompt, tokens in zip(self._prompts, new, strict=True)
        ]
