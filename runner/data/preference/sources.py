"""Graph nodes of data with prompts: preference pairs, and judged completions."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from runner.data import cache as caching
from runner.data.dataset import Column
from runner.data.documents.document import Digest, Document
from runner.data.documents.parts import in_parts
from runner.data.preference.examples import Example, Examples
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
        require_halves(self.sequence_length)

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
        for example in self.examples:
            for document in self._documents(example, completions):
                digest.update(document)
        if not digest.documents:
            raise UserError("the data holds no examples at all")
        name = (
            f"prompted-1-{digest.hexdigest()}-{vocabulary.definition_digest}"
            f"-{vocabulary.begin}-{vocabulary.end}.tokens"
        )
        pieces = tokens.fetch_in_parts(
            caching.directory(cache) / "tokens" / name,
            in_parts(
                self.examples,
                documents=lambda example: self._documents(example, completions),
                encode=functools.partial(_encode, vocabulary),
                expected=digest,
                things="examples",
            ),
            vocab_size=vocabulary.size,
            total=digest.bytes,
        )
        return pieces, vocabulary

    def _documents(self, example: Example, completions: int) -> Iterator[Document]:
        """Yield an example's prompt and completions."""
        if len(example.completions) != completions:
            raise UserError(
                f"{type(self).__name__} wants examples of {completions} "
                f"completion{'s' * (completions > 1)}, {example.name} has "
                f"{len(example.completions)}"
            )
        for text in (example.prompt, *example.completions):
            yield Document(example.name, text)


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


def require_halves(sequence_length: int) -> None:
    """Refuse a row that has no two halves of two positions.

    Raises:
      UserError: With the length.
    """
    if sequence_length < 4 or sequence_length % 2:
        raise UserError(
            "sequence_length must be even and at least 4 (half a row for either "
            f"sequence), got {sequence_length}"
        )


def _encode(
    vocabulary: Vocabulary, examples: Sequence[Example]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield ids and bytes of each piece, which is never empty."""
    texts = (text for x in examples for text in (x.prompt, *x.completions))
    encoded = vocabulary.encode_all(texts)
    begin = np.array([vocabulary.begin], np.uint32)
    for example in examples:
        yield np.concatenate([begin, next(encoded)]), 0
        for _ in example.completions:
            yield np.append(next(encoded), np.uint32(vocabulary.end)), 0


def _equal(pieces: Tokens, a: int, b: int) -> bool:
    """Return whether two pieces have the same ids."""
    first, second = (pieces.ids[slice(*pieces.offsets[i : i + 2])] for i in (a, b))
    return np.array_equal(first, second)
