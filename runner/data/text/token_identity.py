"""Comparison of two tokenizers by what their ids mean."""

from runner.data.text.vocabulary import Vocabulary


def differences(theirs: Vocabulary, ours: Vocabulary) -> str:
    """Describe the first ids whose meaning differs; "" when none does.

    An id means its bytes of text, or the name of its special token. Which id ends a
    document is not compared, nor whether a token is marked special: containers of one
    tokenizer differ in both. Ids beyond the last that means something are padding.
    """
    size = max(theirs.size, ours.size)
    wrong = [i for i in range(size) if theirs.meaning(i) != ours.meaning(i)]
    if not wrong:
        return ""
    pairs = [
        f"{i} is {_format_id(theirs, i)} there, {_format_id(ours, i)} here"
        for i in wrong[:2]
    ]
    more = f" (and {len(wrong) - 2:,} more)" if len(wrong) > 2 else ""
    sizes = f"{theirs.size:,} ids there, {ours.size:,} here; "
    sizes = sizes if theirs.size != ours.size else ""
    return f"{sizes}token {'; '.join(pairs)}{more}"


def _format_id(vocabulary: Vocabulary, index: int) -> str:
    meaning = vocabulary.meaning(index)
    if meaning is None:
        return "absent"
    text = repr(meaning.decode(errors="backslashreplace"))
    return f"special {text}" if index in vocabulary.special else text
