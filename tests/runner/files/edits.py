"""Small random edits of files, as a stranger or a worn disk would make them.

All draws come from one seed, so that edit 37 of a kind is the same file everywhere.
"""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

SEED = 14
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    3,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    "\ud800",
    "a" * 300,
    [],
    {},
    [None],
    [[1, 2], 3],
    {"x": 1},
    {"type": "x"},
]
_JSON = (".json", "_METADATA", "_sharding", "_metadatas/process_0")
BYTES = [b"", b"\xff", b"\x00", b"\xef\xbb\xbf", b"{", b'"', b"\n", b"9" * 5000]
BYTES += [b"[" * 100_000, b"\r", b": ", b"\\ud800", b"\x1b[31m", b"-", b"e9"]


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all values in a JSON value, itself left out."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    below = [((*path, key), inner) for key, inner in items]
    return [p for p, _ in below] + [q for p, v in below for q in places(v, p)]


def edited_json(value: Any, choose: random.Random) -> Any:
    """A copy with one value replaced, deleted, repeated or added."""
    value = copy.deepcopy(value)
    paths = places(value)
    if not paths or choose.random() < 0.05:
        return choose.choice(VALUES)
    path = choose.choice(paths)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    match choose.randrange(6):
        case 0:
            del holder[path[-1]]
        case 1:
            new = choose.choice(paths)
            other = value
            for key in new:
                other = other[key]
            holder[path[-1]] = copy.deepcopy(other)
        case 2 if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        case 3:
            holder[path[-1]] = nested(choose.choice([20, 90, 2000]), choose)
        case _:
            holder[path[-1]] = choose.choice(VALUES)
    return value


def nested(depth: int, choose: random.Random) -> Any:
    """Lists or objects in one another."""
    value: Any = 1
    wrap: Callable[[Any], Any] = choose.choice([lambda x: [x], lambda x: {"x": x}])
    for _ in range(depth):
        value = wrap(value)
    return value


def dumps(value: Any) -> bytes:
    """JSON of a value of any depth."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b'{"x": ' * 5000 + b"1" + b"}" * 5000


def edited_bytes(content: bytes, choose: random.Random, *, within: int = 0) -> bytes:
    """A copy with bytes cut off, cut out, flipped, doubled or put in.

    Args:
      content: of the file.
      choose: draws.
      within: the edit begins in the first so many bytes; 0 for anywhere.
    """
    size = min(within or len(content), len(content))
    start = choose.randrange(size + 1)
    end = min(start + choose.choice([1, 2, 8, 40, len(content)]), len(content))
    match choose.randrange(5):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + content[end:]
        case 2 if content:
            at = min(start, len(content) - 1)
            flipped = content[at] ^ (1 << choose.randrange(8))
            return content[:at] + bytes([flipped]) + content[at + 1 :]
        case 3:
            return content[:end] + content[start:end] + content[end:]
        case _:
            return content[:start] + choose.choice(BYTES) + content[start:]


def edit(
    kind: str,
    file: str,
    content: bytes,
    number: int,
    reseal: Callable[[Any], Any] | None = None,
) -> bytes:
    """Edit `number` of a file: JSON by its values, else by its bytes and lines.

    Args:
      kind: of file; its name seeds the draws.
      file: name of the file.
      content: of the file.
      number: of the edit.
      reseal: makes the digests in edited JSON agree again.
    """
    choose = random.Random(f"{SEED} {kind} {number}")
    if file.endswith(_JSON) and (reseal or choose.random() < 0.7):
        value = edited_json(json.loads(content), choose)
        return dumps(reseal(value) if reseal else value)
    if file.endswith(".jsonl") and choose.random() < 0.7:
        lines = content.splitlines()
        at = choose.randrange(len(lines))
        lines[at] = dumps(edited_json(json.loads(lines[at]), choose))
        return b"\n".join(lines) + b"\n"
    if file.endswith((".gguf", ".safetensors")):
        return edited_bytes(content, choose, within=choose.choice([24, 400, 0]))
    if file.endswith((".txt", ".gin")) and choose.random() < 0.5:
        lines = content.splitlines(keepends=True)
        at, other = choose.randrange(len(lines)), choose.choice(lines)
        lines[at] = choose.choice([b"", other, edited_bytes(lines[at], choose)])
        return b"".join(lines)
    return edited_bytes(content, choose)
