"""Kinds of scores by name, and the function that reads each."""

from collections.abc import Callable
from pathlib import Path

from runner.errors import UserError, nearest
from runner.exchange.formats import (
    axolotl,
    distillkit,
    llama_cpp,
    maxtext,
    sglang,
    trl,
    vllm,
)
from runner.exchange.formats.scored import Scores

READERS: dict[str, Callable[[Path], Scores]] = {
    "axolotl": axolotl.read,
    "distillkit": distillkit.read,
    "llama_cpp": llama_cpp.read,
    "maxtext": maxtext.read,
    "sglang": sglang.read,
    "trl": trl.read,
    "vllm": vllm.read,
}


def reader(kind: str) -> Callable[[Path], Scores]:
    """Return the function that reads scores of a kind.

    Raises:
      UserError: There is none of this name.
    """
    if kind not in READERS:
        raise UserError(f"no kind of scores {kind!r}{nearest(kind, READERS)}")
    return READERS[kind]
