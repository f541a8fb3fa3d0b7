"""The job that has a model go on with prompts."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.decoding.contrast import Contrast
from models.decoding.draws import Draws
from runner import atomic_files, runtime
from runner.data.text.tokenizer import TokenizerSource
from runner.errors import UserError
from runner.graph.job import Job
from runner.machine import out_of_memory
from runner.sampling import prompts, text_model
from runner.sampling.continuing import Continuation, continuations
from runner.weights import location
from runner.workdir.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Job):
    """Continuations of prompts by the model in a file.

    What follows a prompt does not depend on the prompts beside it, nor on
    `batch_size`; draws are those of the seed and the number of the prompt.

    Attributes:
      model: `PATH`, or `WORKDIR@STEP`, `WORKDIR@best`: a work directory, a Hugging Face
        folder or a `.gguf` file.
      prompts: Texts to go on with.
      file: A file of more: a line each, or JSON lines with `prompt` (`.jsonl`).
      num_tokens: Tokens after each prompt, at most.
      draws: Which token is next; the most probable one by default.
      seed: Of the draws.
      batch_size: Prompts that go on at once.
      settings: Entries of `config.json` in place of a published model's own.
      tokenizer: In place of the one beside the weights.
      assistant: A model like `model`, of the same tokens, that knows what the texts are
        not to say; it is taken away from the model.
      contrast: How, at each token.

    Raises:
      ValueError: A number is out of range.
    """

    model: str
    prompts: Sequence[str] = ()
    file: str = ""
    num_tokens: int = 128
    draws: Draws = dataclasses.field(default_factory=Draws)
    seed: int = 0
    batch_size: int = 8
    settings: Mapping[str, Any] | None = None
    tokenizer: TokenizerSource | None = None
    assistant: str = ""
    contrast: Contrast = dataclasses.field(default_factory=Contrast)

    def __post_init__(self):
        for field in ("num_tokens", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} must be at least 1, got {getattr(self, field)}"
                )
        if not 0 <= self.seed < 2**32:  # JAX drops higher bits: two seeds as one
            raise ValueError(f"seed must be 0 to 2**32 - 1, got {self.seed}")

    def check(self) -> None:
        """Refuse a model that is not there, and no prompts; no array is read.

        Raises:
          UserError: See there.
        """
        location.check(location.parse(self.model))
        if self.assistant:
            location.check(location.parse(self.assistant))
        self.all_prompts()
        if self.tokenizer is not None:
            self.tokenizer.check()

    def all_prompts(self) -> list[str]:
        """Return the prompts, those of the file last.

        Raises:
          UserError: There is none, or the file cannot be read.
        """
        more = prompts.read(self.file) if self.file else []
        if not (self.prompts or more):
            raise UserError("no prompt to go on with")
        return [*self.prompts, *more]

    def run(self, workdir: Workdir) -> None:
        """Write `samples.jsonl`, and print every text."""
        continuations = list(self.continuations())
        lines = [json.dumps(dataclasses.asdict(one)) for one in continuations]
        atomic_files.write_atomic(
            workdir.path / "samples.jsonl", "\n".join(lines) + "\n"
        )
        for one in continuations:
            print(f"{one.prompt}{one.text}\n")

    def continuations(self) -> Iterator[Continuation]:
        """Yield a continuation of each prompt, in order, a batch at a time.

        Raises:
          UserError: The model is not there or writes no text, or there is no prompt.
        """
        texts = self.all_prompts()
        with out_of_memory.explained():
            author = text_model.load(
                location.parse(self.model),
                settings=self.settings,
                tokenizer=self.tokenizer,
                config=runtime.current(),
            )
            assistant = None
            if self.assistant:
                assistant = self._assistant_of(author)
            yield from continuations(
                author,
                texts,
                num_tokens=self.num_tokens,
                draws=self.draws,
                seed=self.seed,
                batch_size=self.batch_size,
                assistant=assistant,
                contrast=self.contrast,
            )

    def _assistant_of(self, author: text_model.TextModel) -> text_model.TextModel:
        """Return the assistant.

        Raises:
          UserError: It is not there, or its tokens are others than the author's.
        """
        assistant = text_model.load(
            location.parse(self.assistant),
            tokenizer=self.tokenizer,
            config=runtime.current(),
        )
        if assistant.vocabulary.digest != author.vocabulary.digest:
            raise UserError(
                f"assistant: the tokens of {self.assistant} are not those of "
                f"{self.model}"
            )
        return assistant
