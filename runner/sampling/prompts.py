"""Prompts: read from files, cut into ids, padded into batches."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from runner.errors import UserError
from runner.sampling.text_model import TextModel

_MULTIPLE = 16
"""Lengths are padded to a multiple of this: fewer programs to compile."""


def read(path: str) -> list[str]:
    """Return the prompts of a file: a line each; of `.jsonl`, the `prompt` of each.

    Raises:
      UserError: There is no such file, it is malformed, or it holds no prompt.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no such file of prompts: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as prompts: {error}") from None
    # Not `splitlines`, which takes a form feed and U+2028 for ends of lines.
    lines = {n: line for n, line in enumerate(text.split("\n"), 1) if line.strip()}
    if not lines:
        raise UserError(f"{path} holds no prompt")
    if path.endswith(".jsonl"):
        return [_prompt(path, number, line) for number, line in lines.items()]
    return list(lines.values())


def _prompt(path: str, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        prompt = None
    if not isinstance(prompt, str):
        raise UserError(f'{path}, line {number}: expected {{"prompt": "..."}}')
    return prompt


def encode(text_model: TextModel, prompts: Sequence[str]) -> list[np.ndarray]:
    """Return the ids of each prompt, what begins a text before them.

    Raises:
      UserError: A prompt is empty where nothing begins a text.
    """
    begin = np.array(text_model.begin, np.int32)
    rows = [
        np.concatenate([begin, ids.astype(np.int32)])
        for ids in text_model.vocabulary.encode_all(prompts, special_as_text=False)
    ]
    for number, row in enumerate(rows):
        if not len(row):
            raise UserError(f"prompt {number} is empty, and nothing begins a text here")
    return rows


def batches(
    rows: Sequence[np.ndarray], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield numbers `[b]`, ids `[b p]` padded on the right, and lengths `[b]`.

    Every batch has `size` rows; those of number -1 only fill the last.
    """
    longest = max(len(row) for row in rows)
    width = -(-longest // _MULTIPLE) * _MULTIPLE
    size = min(size, len(rows))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        numbers = np.full(size, -1)
        numbers[: len(part)] = np.arange(start, start + len(part))
        ids, lengths = np.zeros((size, width), np.int32), np.ones(size, np.int32)
        for i, row in enumerate(part):
            ids[i, : len(row)], lengths[i] = row, len(row)
        yield numbers, ids, lengths
