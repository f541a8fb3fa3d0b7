"""Forms of files that are not plain UTF-8 text, by their first bytes."""

_FORMS = {
    b"\x1f\x8b": "compressed by gzip; unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first (unzstd)",
    b"BZh": "compressed by bzip2; unpack it first (bunzip2)",
    b"\xfd7zXZ\x00": "compressed by xz; unpack it first (unxz)",
    b"PK\x03\x04": "a zip archive; unpack it first (unzip)",
    b"PAR1": "a Parquet file; data.Parquet reads it",
    b"ARROW1": "an Arrow file; data.HuggingFaceDataset reads folders of them",
    b"GGUF": "a model in GGUF; data.GGUFTokenizer reads the tokenizer of one",
    b"MMIDIDX": "an index of Megatron's; data.MegatronTokens reads it with its .bin",
    b"\xff\xfe": "UTF-16 text; write it as UTF-8 first (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text; write it as UTF-8 first (iconv -f UTF-16 -t UTF-8)",
}
LONGEST = max(map(len, _FORMS))


def describe(start: bytes) -> str:
    """Return what a file is that begins so, and what to do; "" where unknown."""
    return next(
        (form for magic, form in _FORMS.items() if start[: len(magic)] == magic), ""
    )
