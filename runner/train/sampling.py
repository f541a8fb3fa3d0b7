"""What a student writes, to look at."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from models import Transformer
from models.generate import generate
from runner import data
from runner.state.train_state import TrainState
from runner.train.actions import Sample
from runner.train.trainer import Trainer

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 2, 24, 64
TEMPERATURE = 0.7


class Sampler:
    """Continuations of the first tokens of some rows the student has not seen.

    Drawn at a temperature of 0.7, always with the same key: two states differ by what
    they have learnt.

    The rows are the first evaluation's (without one, the training data's). A student
    that is no `Transformer` does not write, and none writes of images.
    """

    def __init__(self, trainer: Trainer):
        self._modules = trainer.modules
        evaluators = list(trainer.evaluators.values())
        dataset = evaluators[0].dataset if evaluators else trainer.dataset
        self._text = dataset if isinstance(dataset, data.PackedText) else None
        rows = range(min(PROMPTS, len(dataset)) if self._text else 0)
        self._prompts = [dataset[row]["tokens"][:PROMPT_TOKENS] for row in rows]

    def __call__(self, state: TrainState) -> Sequence[Sample]:
        """Texts that the state's student makes of the prompts."""
        student: Any = self._modules.student(
            state.params["student"], state.variables["student"]
        )
        if self._text is None or not isinstance(student, Transformer):
            return []
        decode = self._text.vocabulary.decode
        new = generate(
            student,
            np.stack(self._prompts),
            num_tokens=NEW_TOKENS,
            temperature=TEMPERATURE,
            key=jax.random.key(0),
        )
        return [
            Sample(
                prompt=decode(prompt),
                text=decode(np.asarray(tokens)),
            )
            for prompt, tokens in zip(self._prompts, new, strict=True)
        ]
