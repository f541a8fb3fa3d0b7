"""Whether records are over the tokens of a vocabulary, and which differ if not."""

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UserError
from runner.records.manifest import TOKENIZER, Manifest

if TYPE_CHECKING:
    from runner.data.vocabulary import Vocabulary

_SHOWN = 3


def check_vocabulary(
    manifest: Manifest, vocabulary: "Vocabulary", *, directory: Path
) -> None:
    """Refuse records over other tokens than those of `vocabulary`.

    Raises:
      UserError: naming the first tokens that differ, by the copy of the tokenizer.
    """
    if vocabulary.digest == manifest.origin.vocabulary:
        return
    refusal = f"{directory} was recorded with another tokenizer"
    try:
        recorded = recorded_vocabulary(manifest, directory)
    except UserError as error:
        raise UserError(f"{refusal};\n{error}") from error
    raise UserError(f"{refusal}:\n{_difference(recorded, vocabulary)}")


def recorded_vocabulary(manifest: Manifest, directory: Path) -> "Vocabulary":
    """That of the copy of the tokenizer beside the records.

    Raises:
      UserError: the copy is missing, or not the one recorded with.
    """
    from tokenizers import Tokenizer

    from runner.data.vocabulary import vocabulary

    path = directory / TOKENIZER
    try:
        loaded = vocabulary(Tokenizer.from_file(str(path)), end=manifest.origin.end)
    except Exception as error:  # the library raises no narrower class
        reason = str(error).splitlines()[0]
        raise UserError(f"its copy {path} cannot be read: {reason}") from error
    if loaded.digest != manifest.origin.vocabulary:
        raise UserError(f"its copy {path} is not the tokenizer it was recorded with")
    return loaded


def _difference(recorded: "Vocabulary", wanted: "Vocabulary") -> str:
    if recorded.size != wanted.size:
        sizes = f"{recorded.size} tokens, the data's has {wanted.size}; "
    else:
        sizes = ""
    pairs = zip_longest(recorded.pieces, wanted.pieces)
    differ = [
        f"id {i} is {_text(a)}, wanted {_text(b)}"
        for i, (a, b) in enumerate(pairs)
        if a != b
    ]
    if differ:
        more = f" (and {len(differ) - _SHOWN} more)" if len(differ) > _SHOWN else ""
        return sizes + "; ".join(differ[:_SHOWN]) + more
    if recorded.end != wanted.end:
        return f"a document ends with id {recorded.end}, wanted {wanted.end}"
    special = sorted(recorded.special ^ wanted.special)
    return f"other tokens are special; the first is id {special[0]}"


def _text(piece: bytes | None) -> str:
    if piece is None:
        return "absent"
    return (
        repr(piece.decode(errors="backslashreplace")) if piece else "special or unused"
    )
