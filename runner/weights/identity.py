"""Comparison of the tokens that weights were made for with those of the data."""

from pathlib import Path

from runner.data.labels import Classes, Labels
from runner.data.text.tokenizer import TokenizerSource
from runner.errors import UserError
from runner.weights.base import Weights
from runner.weights.some_tokens import SomeTokens

TOKENIZER = "tokenizer.json"
GIVE_TOKENIZER = "if you have it elsewhere: tokenizer=data.TokenizerFile(file=...)"


def speaking(
    weights: Weights,
    vocabulary: Labels,
    tokenizer: TokenizerSource | None = None,
    *,
    cache: str,
) -> Weights:
    """Return weights that speak the tokens of the data: all of theirs, or some.

    Args:
      weights: of a model.
      vocabulary: the data's.
      tokenizer: that of the weights where their files have none; None for the files'.
      cache: directory for results of slow work.

    Raises:
      UserError: with the first tokens that differ.
    """
    cut = getattr(vocabulary, "cut", None)
    if cut is None:
        check(weights, vocabulary, tokenizer, cache=cache)
        return weights
    try:
        check(weights, cut.whole, tokenizer, cache=cache)
    except UserError:  # it may have learnt from such data
        check(weights, vocabulary, tokenizer, cache=cache)
        return weights
    return SomeTokens(weights, cut)


def check(
    weights: Weights,
    vocabulary: Labels,
    tokenizer: TokenizerSource | None,
    *,
    cache: str,
) -> None:
    """Refuse data of other tokens than weights were made for.

    Args:
      weights: of a model.
      vocabulary: the data's.
      tokenizer: that of the weights where their files have none; None for the files'.
      cache: directory for results of slow work.

    Raises:
      UserError: with the first tokens that differ.
    """
    if tokenizer is None or isinstance(vocabulary, Classes):
        weights.check_vocabulary(vocabulary, cache=cache)
    else:
        theirs = tokenizer.load(cache=cache)
        compare(theirs, vocabulary, where=theirs.source)


def require_same(file: Path, vocabulary: Labels, *, cache: str) -> None:
    """Refuse data of another tokenizer than that in a file.

    Raises:
      UserError: the file is missing; or with the first tokens that differ.
    """
    from runner.data import TokenizerFile

    if not file.is_file():
        raise UserError(
            f"{file} is missing, so that its ids cannot be compared with the "
            f"data's\n{GIVE_TOKENIZER}"
        )
    theirs = TokenizerFile(file=str(file)).load(cache=cache)
    compare(theirs, vocabulary, where=str(file))


def compare(theirs: Labels, ours: Labels, *, where: str) -> None:
    """Refuse data whose ids stand for other tokens than the weights were made for.

    Args:
      theirs: Those of the weights.
      ours: The data's; ids that are only planned mean nothing yet.
      where: Their tokenizer, for messages.

    Raises:
      UserError: With the first tokens that differ.
    """
    from runner.data.text.token_identity import differences
    from runner.data.text.vocabulary import Vocabulary

    assert isinstance(theirs, Vocabulary)
    message = differences(theirs, ours) if isinstance(ours, Vocabulary) else ""
    if message:
        raise UserError(f"another tokenizer than the data's ({where}):\n{message}")
