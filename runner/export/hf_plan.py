"""A student as a folder for transformers: config, weights, tokenizer, card."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from models.pretrained import writing
from runner.data.text import chat_files
from runner.data.text.vocabulary import Vocabulary
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
        ids: dict[str, Any] = {}
        if vocabulary is not None:
            ids = {
                "begin": vocabulary.begin,
                "end": vocabulary.end,
                "stops": vocabulary.stops,
            }
            (folder / "tokenizer.json").write_text(
                vocabulary.tokenizer.to_str(pretty=True), encoding="utf-8"
            )
            config = self._tokenizer_config(vocabulary)
            _write_json(folder / "tokenizer_config.json", config)
            template = vocabulary.chat.templates.get("default")
            if template is not None:
                file = folder / chat_files.TEMPLATE
                file.write_text(template, encoding="utf-8")
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

    def _tokenizer_config(self, vocabulary: Vocabulary) -> dict[str, object]:
        """`tokenizer_config.json`: transformers takes `tokenizer.json` as it is.

        The names of tokens are those that the tokenizer came with, which its chat
        template reads, else the ends of the data.
        """
        ends = {"bos_token": self.student.begin, "eos_token": self.student.end}
        names = {**ends, **vocabulary.chat.variables}
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": self.student.context,
            **{
                name: token
                for name, token in names.items()
                # transformers gives a name that it does not know an id of its own
                if isinstance(token, str)
                and vocabulary.tokenizer.token_to_id(token) is not None
            },
        }


def _write_json(file: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
