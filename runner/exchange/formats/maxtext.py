"""ArrayRecord files of MaxText's `save_top_k_teacher_logits`.

Read at MaxText e591f30. A record is a `tf.train.Example` of one row: `inputs` `[T]`,
`top_k_logits` and `top_k_indices` `[T k]` laid flat, best first, and by choice
`inputs_segmentation` (`--optional_keys`), by which a packed row is parted into its
documents. Entries at i are of the token after `inputs[i]`: no place is moved. They are
logits as the model gives them, float32, at temperature 1; the log-normalizer is not
kept, so the mass outside of the entries is not known. `sequence_hash` is Python's
`hash`, another one in every process, and is not read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from runner.exchange.formats import json_lines
from runner.exchange.formats.scored import (
    BadScores,
    Scored,
    Scores,
    by_segment,
    checked,
)
from runner.files import tf_example


def read(source: Path) -> Scores:
    """Return the scores of an ArrayRecord file, or of a folder of them."""
    files = json_lines.files_of(source, (".array_record",))
    return Scores(
        teacher="unknown, MaxText",
        sequences=(x for file in files for x in _rows(file)),
        normalized=False,
    )


def _rows(path: Path) -> Iterator[Scored]:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records() if reader.ok() else 0
        if not count:
            raise BadScores(f"{path}: holds no records: damaged, or never closed")
        for number in range(count):
            place = f"{path}, record {number}"
            (record,) = reader.read([number])
            try:
                features = tf_example.decode(record)
            except ValueError as error:
                raise BadScores(f"{place}: {error}") from None
            yield from _scored(place, features)
    except RuntimeError as error:
        line = str(error).splitlines()[0].partition(";")[0]
        raise BadScores(f"{path}: {line}") from None


def _scored(place: str, features: Mapping[str, np.ndarray]) -> Iterator[Scored]:
    for name in ("inputs", "top_k_logits", "top_k_indices"):
        if name not in features:
            raise BadScores(f"{place}: has no {name}")
    tokens = features["inputs"]
    scores, ids = features["top_k_logits"], features["top_k_indices"]
    if not len(tokens) or scores.size % len(tokens) or scores.size != ids.size:
        raise BadScores(
            f"{place}: {scores.size} logits and {ids.size} ids of {len(tokens)} tokens"
        )
    shape = (len(tokens), -1)
    scored = checked(tokens, ids.reshape(shape), scores.reshape(shape), place=place)
    segments = features.get("inputs_segmentation", np.ones(len(tokens), int))
    if len(segments) != len(tokens):
        raise BadScores(f"{place}: inputs_segmentation is not as long as inputs")
    yield from by_segment(scored, segments)
