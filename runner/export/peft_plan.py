"""A student's adapters as a folder for peft."""

import dataclasses
from pathlib import Path
from typing import Self

from models.pretrained import writing
from models.pretrained.writing import peft_folder
from models.pretrained.writing.tensors import Tensor
from runner.export import card
from runner.export.base import Plan
from runner.export.student import Adapters, Student


@dataclasses.dataclass(frozen=True)
class PeftPlan(Plan):
    """A folder of adapters that can be written.

    Attributes:
      adapters: of the student.
      tensors: of the adapters.
    """

    adapters: Adapters
    tensors: list[Tensor]

    @classmethod
    def of(cls, student: Student, *, dtype: str, name: str) -> Self:
        adapters = student.adapters
        if adapters is None:
            raise ValueError("the student has no adapters: it is no models.LoRA")
        if adapters.others:
            raise ValueError(
                f"{adapters.others[0]} was trained too, and is no adapter: without "
                "format=peft the whole model is written"
            )
        choice = writing.for_folder(student.model)
        tensors = peft_folder.tensors(choice, adapters.arrays)
        return cls(student, choice, dtype or adapters.dtype, name, adapters, tensors)

    @property
    def family(self) -> str:
        """The `model_type` of the model that the adapters are for."""
        return f"adapters of rank {self.adapters.rank} for {self.choice.family}"

    def write(self, folder: Path) -> None:
        peft_folder.write(
            folder,
            self.tensors,
            dtype=self.dtype,
            rank=self.adapters.rank,
            alpha=self.adapters.alpha,
            base=self.adapters.base,
            num_layers=self.choice.fields["num_layers"],
        )
        text = card.text(
            self.student, self.choice, dtype=self.dtype, name=self.name, library="peft"
        )
        (folder / "README.md").write_text(text, encoding="utf-8")

    def how_to(self, to: Path) -> str:
        """Return a line on how to load it."""
        base = repr(self.adapters.base) if self.adapters.base else "its base"
        load = f"transformers.AutoModelForCausalLM.from_pretrained({base})"
        return f'load: peft.PeftModel.from_pretrained({load}, "{to}")'
