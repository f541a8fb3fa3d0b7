"""What every kind of file gives: a configuration, and tensors by name."""

import dataclasses
import difflib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
    """One published model, as its files have it.

    path:    what was opened, for messages.
    files:   all that decides the arrays, in a fixed order.
    fields:  of `models.Transformer`.
    names:   by role (a path of ours without its layer, `attention/query`), the name of
             the tensor that fills it; `{layer}` and `{expert}` stand for numbers.
    unused:  endings of tensor names that hold nothing a model needs.
    tensors: by name, what reads one.
    end_ids: tokens that end a text.
    """

    path: Path
    files: tuple[Path, ...]
    fields: Mapping[str, Any]
    names: Mapping[str, str]
    unused: tuple[str, ...]
    tensors: Mapping[str, Callable[[], np.ndarray]]
    end_ids: tuple[int, ...]

    def digest(self) -> str:
        """32 hexadecimal digits of the content of `files`."""
        hashed = hashlib.blake2b(b"retort pretrained 1", digest_size=16)
        for file in self.files:
            hashed.update(f" {file.stat().st_size} ".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    hashed.update(block)
        return hashed.hexdigest()


def nearest(name: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the choices when none is near."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; one of: {choices}"
