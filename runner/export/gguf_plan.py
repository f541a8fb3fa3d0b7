"""A student as a file for llama.cpp, and its card."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from models.pretrained import writing
from runner.data.text.gguf import from_tokenizer
from runner.errors import UserError
from runner.export import card
from runner.export.base import QUANTIZED, Plan
from runner.export.student import Student

FILE = "model.gguf"


@dataclasses.dataclass(frozen=True)
class GGUFPlan(Plan):
    """A file that can be written.

    Attributes:
      tokenizer: entries by the rest of their names after `tokenizer.`.
      quantized: whether kernels are stored on their grids.
    """

    tokenizer: Mapping[str, Any]
    quantized: bool = False

    @classmethod
    def of(cls, student: Student, *, dtype: str, name: str) -> Self:
        choice = writing.for_gguf(student.model)
        tokenizer = _tokenizer(student, size=choice.fields["vocab_size"])
        quantized = dtype == QUANTIZED
        rest = student.dtype if quantized else dtype or student.dtype
        return cls(student, choice, rest, name, tokenizer, quantized)

    def write(self, folder: Path) -> None:
        writing.gguf_writer.write(
            folder / FILE,
            self.choice,
            self.student.arrays,
            dtype=self.dtype,
            context=self.student.context,
            name=self.name,
            tokenizer=self.tokenizer,
            quantized=self.quantized,
        )
        text = card.text(
            self.student,
            self.choice,
            dtype=self.dtype,
            name=self.name,
            library="gguf",
            quantized=self.quantized,
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def how_to(self, to: Path) -> str:
        """Return a line on how to load it."""
        return f"load: llama-cli --model {to / FILE}"


def _tokenizer(student: Student, *, size: int) -> dict[str, Any]:
    """Entries of the vocabulary and of the ends of a text."""
    vocabulary = student.vocabulary
    if vocabulary is None:
        raise UserError(
            "the data has no tokenizer, and a .gguf file needs one; write the model as "
            "a folder, format hf"
        )
    entries = from_tokenizer.entries(vocabulary.tokenizer, size=size)
    entries |= {
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.end,
        # As `encode` of the tokenizer has it: what its post-processor puts there.
        "add_bos_token": student.begins,
        "add_eos_token": False,
    }
    turn_ends = [index for index in vocabulary.stops if index != vocabulary.end]
    if turn_ends:  # llama.cpp stops at this one too
        entries["eot_token_id"] = turn_ends[0]
    named = {f"ggml.{name}": value for name, value in entries.items()}
    template = vocabulary.chat.templates.get("default")
    return named if template is None else {**named, "chat_template": template}
