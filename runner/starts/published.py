"""A start from a published model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from runner.data.text.tokenizer import TokenizerSource
from runner.errors import UserError, prefixed
from runner.starts.base import StartContext
from runner.starts.weights_start import Weights, WeightsStart
from runner.weights import identity, opening
from runner.weights.published import PublishedWeights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(WeightsStart):
    """The weights of a Hugging Face folder or a `.gguf` file.

    Attributes:
      path: of the folder or file; also `package:NAME/FILE`.
      settings: entries of `config.json` in place of the files' own.
      tokenizer: that the model was trained with, where its files have none, or one that
        cannot be read.

    `student=pretrained.student(path)` (of `models`) gives the model it belongs to.
    """

    path: str
    settings: Mapping[str, Any] | None = None
    tokenizer: TokenizerSource | None = None

    def check(self) -> None:
        with prefixed("path"):
            if opening.find(self.path) is not PublishedWeights:
                raise UserError(f"{self.path} is a run: starts.Run(workdir=...)")

    def weights(self, context: StartContext) -> Weights:
        weights = identity.speaking(
            opening.open_weights(self.path, self.settings),
            context.dataset.vocabulary,
            self.tokenizer,
            cache=context.cache,
        )
        return Weights(
            source={"path": self.path, "digest": weights.digest},
            tensors=weights.tensors(),
        )
