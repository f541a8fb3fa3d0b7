"""Graph nodes of data with prompts: preference pairs, and judged completions."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from runner.data import cache as caching
from runner.data.dataset import Column
from runner.data.documents.document import Digest, Document
from runner.data.preference.examples import Examples
from runner.data.preference.prompted_rows import PromptedRows
from runner.data.source import DataSource
from runner.data.text import tokens
from runner.data.text.tokenizer import TokenizerSource
from runner.data.text.tokens import Tokens
from runner.data.text.vocabulary import Vocabulary
from runner.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedText(DataSource):
    """Base of data with prompts: each text is tokenised by itself.

    `begin` comes before a prompt, `end` after a completion.

    Attributes:
      examples: Prompts with completions, in a fixed order.
      tokenizer: Maps text to ids.
      sequence_length: Positions in a row, half of them for either sequence.
      begin: As in `data.TokenizedText`.
      end: As in `data.TokenizedText`.

    Raises:
      UserError: The sequence length is below 4, or odd.
    """

    examples: Examples
    tokenizer: TokenizerSource
    sequence_length: int = 512
    begin: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        if self.sequence_length < 4 or self.sequence_length % 2:
            raise UserError(
                "sequence_length must be even and at least 4 (half a row for either "
                f"sequence), got {self.sequence_length}"
            )

    def check(self) -> None:
        self.examples.check()
        self.tokenizer.check()

    def _pieces(self, cache: str, completions: int) -> tuple[Tokens, Vocabulary]:
        """Return the ids of each example's prompt and completions, one after the other.

        Raises:
          UserError: There are no examples, or one has another number of completions.
        """
        vocabulary = self.tokenizer.load(cache=cache)
        vocabulary = vocabulary.with_ends(begin=self.begin, end=self.end)
        digest = Digest()
        for document in self._documents(completions):
            digest.update(document)
        if not digest.documents:
            raise UserError("the data holds no examples at all")
        name = (
            f"prompted-1-{digest.hexdigest()}-{vocabulary.definition_digest}"
            f"-{vocabulary.begin}-{vocabulary.end}.tokens"
        )
        pieces = tokens.fetch(
            caching.directory(cache) / "tokens" / name,
            self._encoded(vocabulary, completions),
            vocab_size=vocabulary.size,
        )
        if len(pieces.offsets) - 1 != digest.documents:
            raise UserError("the examples changed while they were read; start again")
        return pieces, vocabulary

    def _documents(self, completions: int) -> Iterator[Document]:
        """Yield each example's prompt and completions."""
        for example in self.examples:
            if len(example.completions) != completions:
                raise UserError(
                    f"{type(self).__name__} wants examples of {completions} "
                    f"completion{'s' * (completions > 1)}, {example.name} has "
                    f"{len(example.completions)}"
                )
            for text in (example.prompt, *example.completions):
                yield Document(example.name, text)

    def _encoded(
        self, vocabulary: Vocabulary, completions: int
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield ids and bytes of each piece, which is never empty."""
        texts = (document.text for document in self._documents(completions))
        for number, ids in enumerate(vocabulary.encode_all(texts)):
            if number % (1 + completions):
                whole = np.append(ids, vocabulary.end)
            else:
                whole = np.concatenate([[vocabulary.begin], ids])
            yield whole.astype(np.uint32), 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferencePairs(PromptedText):
    """Pairs of completions of a prompt: chosen, then rejected, in one row.

    So neither accumulation nor devices part a pair. `data.json` says how many pairs
    had to be cut, and of how many both completions are equal.
    """

    def load(self, *, cache: str = "") -> PromptedRows:
        pieces, vocabulary = self._pieces(cache, 2)
        numbers = np.arange(len(pieces.offsets) - 1).reshape(-1, 3)
        equal = sum(_equal(pieces, a, b) for a, b in numbers[:, 1:].tolist())
        return PromptedRows(
            pieces=pieces,
            prompts=numbers[:, 0],
            completions=numbers[:, 1:],
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            description={"equal": equal},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedCompletions(PromptedText):
    """Completions judged one by one, for `losses.KTO`; column `desirable`.

    The second sequence of a row is the completion of the next row after the prompt of
    this one, from which the loss estimates its baseline.
    """

    def load(self, *, cache: str = "") -> PromptedRows:
        pieces, vocabulary = self._pieces(cache, 1)
        numbers = np.arange(len(pieces.offsets) - 1).reshape(-1, 2)
        judged = numbers[:, 1]
        rows = PromptedRows(
            pieces=pieces,
            prompts=numbers[:, 0],
            completions=np.stack([judged, np.roll(judged, -1)], axis=1),
            vocabulary=vocabulary,
            sequence_length=self.sequence_length,
            description={},
        )
        desirable = np.array([x.desirable for x in self.examples], bool)
        if len(desirable) != len(rows):
            raise UserError("the examples changed while they were read; start again")
        return rows.with_columns({"desirable": Column(values=desirable)})


def _equal(pieces: Tokens, a: int, b: int) -> bool:
    """Return whether two pieces have the same ids."""
    first, second = (pieces.ids[slice(*pieces.offsets[i : i + 2])] for i in (a, b))
    return np.array_equal(first, second)
