"""Parquet files of DistillKit's `sample_logits_vllm`: compressed log-probabilities.

Read at DistillKit a61c2e7. A row has `input_ids`, and at each of its places the entries
of the token after it: no place is moved. The last has none, so there is a place less
than tokens. `bytepacked_indices` are ids of `ceil(log2 d)` bits, the first bit first;
`compressed_logprobs` what `compression_config.yaml` beside the files says: some exact
values, then a polynomial's coefficients and residuals in few bits, of log-probabilities
or of their differences (`delta_encoding`). Natural logarithms over the whole vocabulary
at temperature 1 (it asks vLLM for `raw_logprobs`), best first, exactly k; the token
itself is not added. What is not exact is rounded: entries can have a mass above 1.

Rows with `token_ids` and `top_values`, uncompressed, are read too. The old form
(`packed_indices`, `exact_values`, `coeffs`) is of logits less their mean whose config
lies elsewhere, and is refused.
"""

import math
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from runner.data.documents import arrow
from runner.exchange.formats import distillkit_codes, json_lines
from runner.exchange.formats.scored import (
    BadScores,
    Scored,
    Scores,
    by_segment,
    checked,
)

_COMPRESSED = ("compressed_logprobs", "bytepacked_indices")
_PLAIN = ("top_values", "token_ids")
_OTHERS = ("input_ids", "attention_mask", "packed_indices")
_COLUMNS = (*_OTHERS, *_COMPRESSED, *_PLAIN)


def read(source: Path) -> Scores:
    """Return the scores of a Parquet or Arrow file, or of a folder and its config."""
    files = json_lines.files_of(source, (".parquet", ".arrow"))
    path = files[0].parent / distillkit_codes.CONFIG
    codes = distillkit_codes.load(path) if path.exists() else None
    return Scores(
        teacher="unknown, DistillKit",
        sequences=(x for file in files for x in _rows(file, codes)),
        rounding=codes.rounding if codes else 2.0**-24,
    )


def _rows(path: Path, codes: distillkit_codes.Codes | None) -> Iterator[Scored]:
    for record in arrow.records(path.name, path, _COLUMNS):
        row, place = record.values, record.place
        if "input_ids" not in row:
            raise BadScores(f"{path}: has no column input_ids")
        scores, ids = _names(path, row.keys(), codes)
        yield from _scored(place, row, row[scores], row[ids], codes)


def _names(path: Path, names: Set[str], codes: Any) -> tuple[str, str]:
    """The columns of scores and ids."""
    if names >= set(_PLAIN):
        return _PLAIN
    if "packed_indices" in names:
        raise BadScores(
            f"{path}: is of the old form (packed_indices), whose config is not in it; "
            "sample it again, or write token_ids and top_values"
        )
    if not names >= set(_COMPRESSED):
        raise BadScores(f"{path}: has no columns {' and '.join(_COMPRESSED)}")
    if codes is None:
        raise BadScores(f"{path}: there is no {distillkit_codes.CONFIG} beside it")
    return _COMPRESSED


def _scored(
    place: str, row: Any, scores: Any, ids: Any, codes: distillkit_codes.Codes | None
) -> Iterator[Scored]:
    try:
        if codes is not None and "token_ids" not in row:
            ids, scores = codes.entries(
                np.array(scores, np.uint8), np.array(ids, np.uint8)
            )
        scores = np.array(scores, np.float64).reshape(len(scores), -1)
        ids = np.array(ids).reshape(scores.shape)
        ids = np.where(scores > -math.inf, ids, 0)
    except (OverflowError, TypeError, ValueError) as error:
        raise BadScores(f"{place}: {str(error).splitlines()[0]}") from None
    scored = checked(row["input_ids"], ids, scores, place=place)
    segments = np.array(row.get("attention_mask") or [1] * len(scored.tokens))
    if len(segments) != len(scored.tokens):
        raise BadScores(f"{place}: attention_mask is not as long as input_ids")
    yield from by_segment(scored, segments)
