"""Check that records are over the tokens of a vocabulary; name those that differ."""

from pathlib import Path

from runner.data.labels import Labels
from runner.data.text.token_identity import differences
from runner.data.text.vocabulary import Vocabulary, vocabulary
from runner.errors import UserError
from runner.records.manifest import TOKENIZER, Manifest


def check_vocabulary(manifest: Manifest, labels: Labels, *, directory: Path) -> None:
    """Refuse records over other tokens than those of `labels`.

    Raises:
      UserError: Naming the first tokens that differ, by the copy of the tokenizer.
    """
    if labels.digest == manifest.origin.vocabulary:
        return
    assert isinstance(labels, Vocabulary)  # classes are refused before
    refusal = f"{directory} was recorded with another tokenizer"
    try:
        recorded = recorded_vocabulary(manifest, directory)
    except UserError as error:
        raise UserError(f"{refusal};\n{error}") from error
    message = differences(recorded, labels)
    if not message and recorded.end != labels.end:
        message = f"a document ends with id {recorded.end} there, {labels.end} here"
    if message:
        raise UserError(f"{refusal}:\n{message}")


def recorded_vocabulary(manifest: Manifest, directory: Path) -> Vocabulary:
    """Load the vocabulary of the copy of the tokenizer beside the records.

    Raises:
      UserError: The copy is missing, or not the one recorded with.
    """
    from tokenizers import Tokenizer

    path = directory / TOKENIZER
    try:
        loaded = vocabulary(Tokenizer.from_file(str(path)), end=manifest.origin.end)
    except Exception as error:  # the library raises no narrower class
        reason = str(error).splitlines()[0]
        raise UserError(f"its copy {path} cannot be read: {reason}") from error
    if loaded.digest != manifest.origin.vocabulary:
        raise UserError(f"its copy {path} is not the tokenizer it was recorded with")
    return loaded
