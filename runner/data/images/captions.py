"""Captions beside images: from a file, or written from the names of their classes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runner.data.columns import read_fields
from runner.data.dataset import Column, Dataset
from runner.data.labels import Classes
from runner.data.source import DataSource
from runner.errors import UserError


@dataclasses.dataclass(frozen=True)
class Captions(DataSource):
    """Images with a caption each: `captions` `[b n]`, its UTF-8 bytes, -1 after them.

    `models.TwoTowers` reads them, beside prompts in bytes. Ids of your own tokenizer
    are lists of a file: `data.Columns(data, file, ["captions"])`.

    Attributes:
      data: The images.
      file: JSON lines, an object an image in the order of the data; "" for captions
        that are written: image i has template i, modulo their number, with the name of
        its class for `{}`.
      field: That holds the caption in a line of the file.
      templates: Of captions that are written.
      names: Of the classes in these; those of the data where there are none.
      length: Bytes of the longest caption that may be there; None for any.

    Raises:
      UserError: There is neither a file nor a template, or a template without `{}`.
    """

    data: DataSource
    file: str = ""
    field: str = "caption"
    templates: Sequence[str] = ("a photo of a {}",)
    names: Sequence[str] = ()
    length: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.templates, str) or not (self.file or self.templates):
            raise UserError(f"templates must be several texts, got {self.templates!r}")
        for template in self.templates:
            if "{}" not in template:
                raise UserError(f"a template has {{}} for the class, got {template!r}")

    def check(self) -> None:
        self.data.check()
        if self.file and not Path(self.file).expanduser().is_file():
            raise UserError(f"no such file of captions: {self.file}")

    def load(self, *, cache: str = "") -> Dataset:
        from models.vision.two_towers import CAPTIONS, padded  # imports jax

        dataset = self.data.load(cache=cache)
        texts = self._read() if self.file else self._written(dataset)
        if len(texts) != len(dataset):
            raise UserError(
                f"{self.file} has {len(texts):,} captions, the data {len(dataset):,} "
                "rows"
            )
        try:
            values = padded([x.encode() for x in texts], self.length)
        except ValueError as error:
            raise UserError(f"captions: {error}") from None
        return dataset.with_columns({CAPTIONS: Column(values=values)})

    def _read(self) -> list[str]:
        path = Path(self.file).expanduser()
        texts = list(read_fields(path, [self.field])[self.field])
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"{path}: caption {row} is no string: {text!r}")
        return texts

    def _written(self, dataset: Dataset) -> list[str]:
        labels = dataset.vocabulary
        if not isinstance(labels, Classes):
            raise UserError(f"captions are written from classes, got {labels.summary}")
        names = self.names or labels.names
        if len(names) != labels.size:
            raise UserError(f"{len(names)} names for {labels.summary}")
        targets = dataset.rows(np.arange(len(dataset)))["targets"]
        return [
            self.templates[row % len(self.templates)].replace("{}", names[int(label)])
            for row, label in enumerate(targets)
        ]
