"""Parts of the families of GPT."""

from collections.abc import Mapping
from typing import Any

from models.pretrained.entries.part import Entries, Fields, Part
from models.pretrained.entries.settings import Settings


def biases(name: str) -> Part:
    """Return the part of biases on queries, keys, values and the attention's output.

    Args:
      name: of the entry that says whether there are any; absent, there are.
    """

    def read(settings: Settings) -> Fields:
        biased = settings.take(name, True)
        return {"attention_bias": biased, "attention_output_bias": biased}

    return Part(read, lambda fields: {name: fields["attention_bias"]})


def _read_residual(settings: Settings) -> Fields:
    parallel = settings.take("use_parallel_residual", True)
    return {"residual": "parallel" if parallel else "serial"}


def _write_residual(fields: Mapping[str, Any]) -> Entries:
    return {"use_parallel_residual": fields["residual"] == "parallel"}


RESIDUAL = Part(_read_residual, _write_residual)
