"""Byte-level vocabularies of `.gguf` files: `tokenizer.ggml.model` is `gpt2`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.data.text.gguf import tokens as gguf_tokens
from runner.errors import UserError

if TYPE_CHECKING:  # tokenizers wait for the first load
    from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4  # of `tokenizer.ggml.token_type`

# Patterns that cut a text into words before pairs are merged, each within the parts
# that the one before it left: those of the publishers' `tokenizer.json`.
GPT2 = [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"]
_LLAMA3 = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
]
_QWEN2 = [_LLAMA3[0].replace("{1,3}", "")]
_SMOLLM = [r"\p{N}", *GPT2]
_HAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK_CODER = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN, r"\p{N}"]
# Letters that have a case, of the scripts that have cases.
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a"
    "\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-"
    "\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-"
    "\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-"
    "\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-"
    "\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-"
    "\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-"
    "\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-"
    "\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-"
    "\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-"
    "\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-"
    "\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)
_PUNCTUATION = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
_DEEPSEEK_LLM = [
    r"[\r\n]",
    rf"\s?[{_CASED}]+",
    rf"\s?[{_PUNCTUATION}]+",
    r"\s+$",
    _HAN,
    r"\p{N}",
]
_DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
]
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _by_case(suffix: str, digits: str) -> list[str]:
    """Words that begin where lower case turns to upper, with a suffix each."""
    return [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{suffix}|"
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{suffix}|{digits}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ]


_GPT4O = _by_case("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")
_TEKKEN = _by_case("", r"\p{N}")

# By `tokenizer.ggml.pre`. Versions of llama.cpp's converter have called some of them
# otherwise: DeepSeek-V3 is `joyai-llm` where transformers 5 reads it, as the name hangs
# on a hash of ids that include the beginning. Llama-4's pattern is GPT-4o's in Meta's
# code.
WORDS = {
    "deepseek-coder": _DEEPSEEK_CODER,
    "deepseek-llm": _DEEPSEEK_LLM,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "deepseek-v3": _DEEPSEEK_V3,
    "gpt-2": GPT2,
    "gpt-4o": _GPT4O,
    "joyai-llm": _DEEPSEEK_V3,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama4": _GPT4O,
    "llama3": _LLAMA3,
    "smollm": _SMOLLM,
    "tekken": _TEKKEN,
}
# Cuts that llama.cpp knows, and why they are none of these.
DOUBTFUL = {
    "pixtral": "llama.cpp cuts digits by three, as of Llama-3, and its publisher's "
    "mistral-common one by one, as of Tekken",
    "kanana2": "llama.cpp cuts as for GPT-4o, and no tokenizer.json of its publisher "
    "was held against that",
}
# Where a word in the vocabulary is not merged from parts.
WHOLE_WORDS_FIRST = {"llama-bpe", "llama-v3", "llama3", "tekken"}


def build(file: str, entries: Mapping[str, Any]) -> "Tokenizer":
    """Build the tokenizer of a file's `tokenizer.ggml.` entries.

    Raises:
      UserError: It cuts texts into words in a way that is not known.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models
    from tokenizers import pre_tokenizers as pre

    words = entries.get("pre")
    if words is None:
        raise UserError(
            f"{file} does not say how it cuts texts into words (tokenizer.ggml.pre), "
            "as files of old converters do not; use TokenizerFile with the model's "
            "tokenizer.json"
        )
    if words in DOUBTFUL:
        raise UserError(
            f"{file}: pre-tokenizer {words!r} is not supported: {DOUBTFUL[words]}; use "
            "TokenizerFile with the model's tokenizer.json"
        )
    if words not in WORDS:
        raise UserError(
            f"{file}: pre-tokenizer {words!r} is not supported; it must be one of "
            f"{', '.join(WORDS)}, or use TokenizerFile with the model's tokenizer.json"
        )

    # Vocabulary and merges; then the cutting into words and the byte alphabet.
    tokens, vocab = entries["tokens"], gguf_tokens.vocab(entries)
    merges = [tuple(merge.split(" ", 1)) for merge in entries["merges"]]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges,
            ignore_merges=words in WHOLE_WORDS_FIRST,
        )
    )
    cuts = [pre.Split(Regex(p), behavior="isolated") for p in WORDS[words]]
    level = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre.Sequence([*cuts, level])
    tokenizer.decoder = decoders.ByteLevel()

    # Tokens that are matched in the text before it is cut.
    kinds = zip(tokens, entries.get("token_type", ()), strict=False)
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == CONTROL, normalized=False)
            for token, kind in kinds
            if kind in (CONTROL, USER_DEFINED) and token in vocab
        ]
    )
    return tokenizer
