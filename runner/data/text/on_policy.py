"""Rows that the student writes itself, between the rows of the data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from runner.data.dataset import Dataset
from runner.data.rollouts import Rollouts
from runner.data.source import DataSource
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnPolicy(DataSource):
    """Data of which a share of the rows becomes the student's own continuations.

    Before each step the student, as it is then, goes on with the prompt of each such
    row; the row becomes that prompt and its continuation, of which the tokens written
    count. A token is drawn by the seed, the step and the place of its row, so that a
    row is a function of these and of the weights: a run that goes on has the same.
    `losses.own_mask` counts the tokens of these rows, `losses.data_mask` the others.

    A prompt is what the first `prompt_tokens` tokens of a row have of their last
    document; in data where replies alone count, all before the first reply.

    Attributes:
      data: The rows, tokens of text or of conversations.
      fraction: Share of the rows of a batch, 0 to 1: a number, or a function of the
        step.
      max_new_tokens: Tokens after a prompt, at most; also at most what a row has room
        for. The end of a document ends a row before.
      temperature: Tokens are drawn from `softmax(logits / temperature)`; 0 takes the
        most probable one.
      top_k: Only so many of the most probable tokens are drawn; None for all.
      top_p: Only the fewest most probable tokens with this mass; None for all.
      prompt_tokens: Tokens of a row that a prompt is taken from; None for those before
        the first target that counts.
      at_once: Rows that are written at a time: where one has ended, the next one
        begins. None is all of them, until the last has ended.
      refresh_every: Steps after which the weights that write are renewed: at step s
        they are those after the last step before that is a multiple of it, up to
        `refresh_every - 1` steps old. They are part of the train state, in every
        checkpoint; 1 is the current ones, of which there is no second copy.
      teacher_share: α of MiniLLM's sampling with the teacher: each token is drawn from
        `p̃ = α p + (1 - α) q`, p the teacher's and q the student's distribution after
        the tokens before, both at `temperature`. `losses.MiniLLM` weights a token by
        `q_y / p̃_y`; other losses read the rows as they are. Wants a live model as the
        teacher, which reads each token that is written; 0 does not. The paper has 0.2.

      group: Rows of the batch that continue one prompt, side by side: the first of each
        `group` rows gives it, and its columns. `losses.PolicyGradient` compares them.
        With more than one, rows hold the log-probability that each token was drawn
        with.

    Source: Agarwal et al. 2023, GKD (arXiv:2306.13649), algorithm 1, where a whole
    batch is the student's with probability λ; here λ is `fraction`, of each batch.
    `teacher_share`: Gu et al. 2023, MiniLLM (arXiv:2306.08543), section 2.2.

    Raises:
      ValueError: A number is out of range.
    """

    data: DataSource
    fraction: float | Callable[[Any], Any] = 1.0
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    prompt_tokens: int | None = None
    at_once: int | None = None
    refresh_every: int = 1
    teacher_share: float = 0.0
    group: int = 1

    def __post_init__(self) -> None:
        if not callable(self.fraction) and not 0.0 <= self.fraction <= 1.0:
            raise ValueError(f"fraction must be in [0, 1], got {self.fraction}")
        for name in (
            "max_new_tokens",
            "prompt_tokens",
            "top_k",
            "at_once",
            "refresh_every",
            "group",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature must not be negative, got {self.temperature}"
            )
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0, at most 1, got {self.top_p}")
        if not 0.0 <= self.teacher_share < 1.0:
            raise ValueError(
                f"teacher_share must be in [0, 1), got {self.teacher_share}"
            )
        cut = self.top_k is not None or self.top_p is not None
        if self.teacher_share and (cut or not self.temperature):
            raise ValueError(
                "teacher_share mixes whole distributions: leave top_k and top_p out, "
                "at a temperature above 0"
            )

    def check(self) -> None:
        self.data.check()

    def load(self, *, cache: str = "") -> Dataset:
        dataset = self.data.load(cache=cache)
        vocabulary = dataset.vocabulary
        if not isinstance(vocabulary, Vocabulary):
            raise UserError("data of OnPolicy must be text, got classes")
        if dataset.rollouts is not None:
            raise UserError("data of OnPolicy is OnPolicy itself; one is enough")
        room = dataset.targets_per_row
        if self.prompt_tokens is not None and self.prompt_tokens > room:
            raise UserError(
                f"prompt_tokens is {self.prompt_tokens}, a row has {room} tokens"
            )
        rollouts = Rollouts(
            fraction=self.fraction,
            max_new_tokens=min(self.max_new_tokens, room),
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            prompt_tokens=self.prompt_tokens,
            at_once=self.at_once,
            refresh_every=self.refresh_every,
            teacher_share=self.teacher_share,
            group=self.group,
            vocab_size=vocabulary.size,
            end=vocabulary.end,
        )
        return dataclasses.replace(dataset, rollouts=rollouts)
