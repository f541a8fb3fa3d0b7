"""Whether records are over the tokens of a vocabulary, and which differ if not."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UserError
from runner.records.manifest import TOKENIZER, Manifest

if TYPE_CHECKING:
    from runner.data.labels import Labels
    from runner.data.text.vocabulary import Vocabulary


def check_vocabulary(
    manifest: Manifest, vocabulary: "Labels", *, directory: Path
) -> None:
    """Refuse records over other tokens than those of `vocabulary`.

    Raises:
      UserError: naming the first tokens that differ, by the copy of the tokenizer.
    """
    if vocabulary.digest == manifest.origin.vocabulary:
        return
    from runner.data.text.vocabulary import Vocabulary, differences

    assert isinstance(vocabulary, Vocabulary)  # classes are refused before
    refusal = f"{directory} was recorded with another tokenizer"
    try:
        recorded = recorded_vocabulary(manifest, directory)
    except UserError as error:
        raise UserError(f"{refusal};\n{error}") from error
    found = differences(recorded, vocabulary) or (
        f"a document ends with id {recorded.end} there, {vocabulary.end} here"
    )
    raise UserError(f"{refusal}:\n{found}")


def recorded_vocabulary(manifest: Manifest, directory: Path) -> "Vocabulary":
    """That of the copy of the tokenizer beside the records.

    Raises:
      UserError: the copy is missing, or not the one recorded with.
    """
    from tokenizers import Tokenizer

    from runner.data.text.vocabulary import vocabulary

    path = directory / TOKENIZER
    try:
        loaded = vocabulary(Tokenizer.from_file(str(path)), end=manifest.origin.end)
    except Exception as error:  # the library raises no narrower class
        reason = str(error).splitlines()[0]
        raise UserError(f"its copy {path} cannot be read: {reason}") from error
    if loaded.digest != manifest.origin.vocabulary:
        raise UserError(f"its copy {path} is not the tokenizer it was recorded with")
    return loaded
