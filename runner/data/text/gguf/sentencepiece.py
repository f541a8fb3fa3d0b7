"""SentencePiece vocabularies of `.gguf` files: `tokenizer.ggml.model` is `llama`.

The file has the score of each piece and no merges. SentencePiece joins whatever
neighbours make a piece, that of the best score first, so the merges are all splits of
pieces into two.

Source: SentencePiece, src/bpe_model.cc; llama.cpp, src/llama-vocab.cpp.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.data.text.gguf import tokens as gguf_tokens
from runner.errors import UserError

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_SPACE = "\u2581"


def build(file: str, entries: Mapping[str, Any]) -> "Tokenizer":
    """Build the tokenizer of a file's `tokenizer.ggml.` entries.

    Raises:
      UserError: It has symbols that the file no longer tells from pieces, or no piece
        for every byte.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    tokens, kinds, scores = (entries[n] for n in ("tokens", "token_type", "scores"))
    _require_plain(file, entries)

    # Pieces that merge; a byte each for characters that are no piece.
    pieces = {t: i for i, t in enumerate(tokens) if kinds[i] == _NORMAL}
    vocab, unknown = gguf_tokens.vocab(entries), entries.get("unknown_token_id")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges(pieces, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )

    # A space is a character like others, and stands before the text too.
    prefix = entries.get("add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    before = [normalizers.Prepend(_SPACE)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*before, spaces])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *strip,
        ]
    )

    # Tokens that no text comes to by merging.
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind != _USER_DEFINED, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and token in vocab
        ]
    )
    return tokenizer


def merges(pieces: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return all splits into two pieces, by falling score of the whole, then by ids.

    Runs of spaces all have one score in the vocabularies of Llama and Mistral; the
    order of their ids is that of the publishers' `tokenizer.json`.

    Args:
      pieces: Ids by piece.
      scores: By id.
    """
    splits = [
        (-scores[whole], whole, pieces[left], pieces[right], left, right)
        for piece, whole in pieces.items()
        for left, right in ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        if left in pieces and right in pieces
    ]
    return [(left, right) for *_, left, right in sorted(splits)]


def _require_plain(file: str, entries: Mapping[str, Any]) -> None:
    """Refuse a vocabulary that its file does not describe in full."""
    advice = "use TokenizerFile with the model's tokenizer.json"
    tokens, kinds, scores = (entries[n] for n in ("tokens", "token_type", "scores"))
    if kinds.count(_BYTE) != 256:
        raise UserError(
            f"{file}: {kinds.count(_BYTE)} tokens of single bytes in a SentencePiece "
            f"vocabulary, 256 are needed; {advice}"
        )
    if entries.get("remove_extra_whitespaces") or entries.get("precompiled_charsmap"):
        raise UserError(f"{file}: its tokenizer changes texts first; {advice}")

    # A symbol of the user's has the score 0, and llama.cpp's converter writes it as if
    # it were a piece. The first merge may have it too: two characters, then comes -1.
    zeros = [i for i, s in enumerate(scores) if s == 0 and kinds[i] == _NORMAL]
    first = [i for i in zeros if len(tokens[i]) == 2 and scores[i + 1 : i + 2] == [-1]]
    symbols = [repr(tokens[i]) for i in zeros if i not in first[:1]]
    if symbols:
        raise UserError(
            f"{file}: {len(symbols)} tokens look like pieces and are symbols of the "
            f"user's, which are matched first ({', '.join(symbols[:2])}); {advice}"
        )
