"""Results on the terminal, above the progress line."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.writers.base import PartialWriter
from runner.writers.terminal import Terminal

# The usual ones in short: an evaluation should fit on a line.
SHORT = {"bits_per_byte": "bits/byte", "calibration_error": "ECE"}
TRAINING = frozenset(
    {
        "contributions",
        "counts",
        "diagnostics",
        "learning",
        "moe",
        "optimizer",
        "shares",
        "skipped",
        "speed",
        "token_weights",
        "weighted",
        "weights",
    }
)


NOTICES = "notices/"
"""Group of the texts that the user has to see, however quiet the run is."""

_METRIC = re.compile(r"(?:(.*?)/)?((?:teacher/)?(?:terms/|metrics/)?[^/]+)")


def split_evaluation(name: str) -> tuple[str, str]:
    """Split `held_out/terms/kl` into the evaluation and `terms/kl`.

    Returns:
      The evaluation and the metric; a training metric has neither, `("", "")`.
    """
    match = _METRIC.fullmatch(name)
    if match is None or name.partition("/")[0] in TRAINING:
        return "", ""
    return match[1] or "", match[2]


class ConsoleWriter(PartialWriter):
    """Evaluations, notices and samples (unless `texts` is false), one line each.

    What training reports every few steps is the progress line's business.
    """

    def __init__(self, terminal: Terminal, *, texts: bool = True):
        self._terminal, self._texts = terminal, texts

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        groups: dict[str, list[str]] = {}
        for name, value in scalars.items():
            group, metric = split_evaluation(name)
            # Terms and the teacher are for the table at the end.
            own = metric.removeprefix("metrics/")
            if own and "/" not in own and own != "share":
                number = np.asarray(value).item()
                label = SHORT.get(own, own.replace("_", " "))
                text = f"{label} {number:#.4g}"
                groups.setdefault(group, []).append(text)
        for group, texts in groups.items():
            self._terminal.print(f"step {step}  {group or 'run'}: {'  '.join(texts)}")

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            if name.startswith(NOTICES):
                self._terminal.print(f"step {step}  note: {text}")
            elif self._texts:
                self._terminal.print(f"step {step}  {name}: {' '.join(text.split())}")

    def close(self) -> None:
        self._terminal.close()
