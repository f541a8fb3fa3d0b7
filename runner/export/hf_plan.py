"""A student as a folder for transformers: config, weights, tokenizer, card."""

import dataclasses
import json
from pathlib import Path
from typing import Self

from models.pretrained import writing
from runner.export import card
from runner.export.base import Plan
from runner.export.student import Student


@dataclasses.dataclass(frozen=True)
class HFPlan(Plan):
    """A folder that can be written."""

    @classmethod
    def of(cls, student: Student, *, dtype: str, name: str) -> Self:
        choice = writing.for_folder(student.model)
        return cls(student, choice, dtype or student.dtype, name)

    def write(self, folder: Path) -> None:
        student, vocabulary = self.student, self.student.vocabulary
        ids = {}
        if vocabulary is not None:
            ids = {"begin": vocabulary.begin, "end": vocabulary.end}
            (folder / "tokenizer.json").write_text(
                vocabulary.tokenizer.to_str(pretty=True), encoding="utf-8"
            )
            _write_json(folder / "tokenizer_config.json", self._tokenizer_config())
        writing.folder.write(
            folder,
            self.choice,
            student.arrays,
            dtype=self.dtype,
            context=student.context,
            **ids,
        )
        text = card.text(
            student, self.choice, dtype=self.dtype, name=self.name, library="hf"
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def how_to(self, to: Path) -> str:
        """Return a line on how to load it."""
        return f'load: transformers.AutoModelForCausalLM.from_pretrained("{to}")'

    def _tokenizer_config(self) -> dict[str, object]:
        """`tokenizer_config.json`: transformers takes `tokenizer.json` as it is."""
        ends = {"bos_token": self.student.begin, "eos_token": self.student.end}
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": self.student.context,
            **{name: token for name, token in ends.items() if token},
        }


def _write_json(file: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
