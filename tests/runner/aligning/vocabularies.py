"""Byte-level vocabularies of a few merges, and texts."""

from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers import pre_tokenizers as pre

from runner.data.text.vocabulary import vocabulary

BYTES = sorted(pre.ByteLevel.alphabet())
TEXTS = ["the teacher teaches é and 漢字, the end", "thé 漢 a<|x|>b", "t"]


def of(merges, *, names=("<end>",), normalizer=None, special=()):
    """A byte-level BPE of some merges, whose first ids are special."""
    pieces = [*names, *special, *BYTES, *("".join(pair) for pair in merges)]
    model = models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges)
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(x, special=True) for x in (*names, *special)]
    )
    return vocabulary(tokenizer, end=0)


WORDS = of([("t", "h"), ("th", "e"), ("Ã", "©"), ("a", "c")])
OTHERS = of([("h", "e"), ("e", "r"), ("t", "e"), ("c", "h")], names=("</s>",))
PLAIN = of([])


def spelled(vocab, ids):
    return b"".join(b"|" if i == vocab.end else vocab.pieces[i] for i in ids.tolist())
