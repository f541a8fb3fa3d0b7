"""The common content of published files: a configuration, and tensors by name."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
    """One published model, in its files' own names.

    Attributes:
      path: of the folder or file, for messages.
      files: all that determine the arrays, in a fixed order.
      fields: of `models.Transformer`.
      names: by role (a parameter's path without its layer, `attention/query`), the
        name of the tensor that fills it; `{layer}` and `{expert}` stand for
        numbers.
      unused: endings of names of tensors that no model needs.
      tensors: by name, a function that reads the tensor.
      dtypes: by name, the type that it is read in: as stored, float32 if quantized.
      end_ids: tokens that end a text.
      settings: entries of `config.json` read in place of the files' own.
      assumed: entries of `config.json` that the files cannot say, as they were read.
      skipped: names of tensors that were there, and are not of the model.
      context: positions of the longest text it was made for; None where unsaid.
    """

    path: Path
    files: tuple[Path, ...]
    fields: Mapping[str, Any]
    names: Mapping[str, str]
    unused: tuple[str, ...]
    tensors: Mapping[str, Callable[[], np.ndarray]]
    dtypes: Mapping[str, np.dtype]
    end_ids: tuple[int, ...]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    assumed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    context: int | None = None

    def digest(self) -> str:
        """Return a hash of `files` and `settings`, 32 hexadecimal digits."""
        content_hash = hashlib.blake2b(b"retort pretrained 1", digest_size=16)
        for file in self.files:
            content_hash.update(f" {file.stat().st_size} ".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    content_hash.update(block)
        if self.settings:
            content_hash.update(json.dumps(self.settings, sort_keys=True).encode())
        return content_hash.hexdigest()
