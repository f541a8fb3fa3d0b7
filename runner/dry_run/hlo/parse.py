"""The text of a compiled program (HLO) as computations of instructions.

    %body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
      %all-gather.1 = f32[8]{0} all-gather(%x), channel_id=1, replica_groups=[1,4]<=[4]
      ROOT %tuple = (s32[], f32[8]{0}) tuple(%add, %all-gather.1)
    }

Only what names an instruction, its shape, its operands and the computations it calls is
read; the rest stays text.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?-> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(
    r"\b(?:to_apply|calls|body|condition|branch_computations"
    r"|true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)"
)
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,<=]*)\]")
_BITS = {"pred": 8, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line. shape, operands, attributes: as they are written."""

    name: str
    shape: str
    opcode: str
    operands: str
    attributes: str

    @property
    def inputs(self) -> list[str]:
        """Names of the instructions it reads."""
        return re.findall(r"%([\w.\-]+)", self.operands)

    @property
    def called(self) -> list[str]:
        """Names of the computations it calls."""
        items = _CALLED.findall(self.attributes)
        return [name for item in items for name in re.findall(r"[\w.\-]+", item)]

    def attribute(self, name: str) -> str | None:
        """The value of `name=`, up to the next comma or space."""
        match = re.search(rf"\b{name}=%?([^\s,]+)", self.attributes)
        return match[1] if match else None


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in order; `root` is the one whose value is returned."""

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    def __iter__(self) -> Iterator[Instruction]:
        """In order."""
        return iter(self.instructions.values())


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations by name; `entry` is the one that runs."""

    computations: Mapping[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """The module that `compiled.as_text()` shows."""
    computations, entry, name = {}, "", ""
    instructions: dict[str, Instruction] = {}
    root = ""
    for line in text.splitlines():
        # A computation is a header, indented instructions and a brace that closes it.
        header = _HEADER.match(line)
        if header and not line[0].isspace():
            name, instructions, root = header[2], {}, ""
            entry = name if header[1] else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(name, instructions, root)
            name = ""
        elif name and (match := _INSTRUCTION.match(line)):
            instruction = _instruction(match[2], match[3])
            instructions[instruction.name] = instruction
            root = instruction.name if match[1] else root
    return Module(computations, entry)


def _instruction(name: str, rest: str) -> Instruction:
    shape, rest = _parenthesis(rest) if rest.startswith("(") else _word(rest)
    opcode, _, _ = rest.partition("(")
    operands, attributes = _parenthesis(rest[len(opcode) :])
    return Instruction(name, shape, opcode.strip(), operands[1:-1], attributes)


def _word(text: str) -> tuple[str, str]:
    word, _, rest = text.partition(" ")
    return word, rest


def _parenthesis(text: str) -> tuple[str, str]:
    """The parenthesis that `text` opens with, and what follows it."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return text[: position + 1], text[position + 1 :].lstrip()
    return text, ""


def parts(shape: str) -> Sequence[str]:
    """The elements of a tuple's shape; of an array, the array."""
    if not shape.startswith("("):
        return [shape]
    elements, depth, begin = [], 0, 1
    for position, character in enumerate(shape):
        depth += (character in "([{") - (character in ")]}")
        if (character == "," and depth == 1) or not depth:
            elements.append(shape[begin:position].strip())
            begin = position + 1
    return elements


def num_bytes(shape: str) -> int:
    """Bytes of all arrays in a shape, without the padding of their layout."""
    return sum(_array_bytes(*match) for match in _ARRAY.findall(shape))


def _array_bytes(dtype: str, sizes: str) -> int:
    count = 1
    for size in sizes.replace("<=", "").split(","):
        count *= int(size or 1)
    return -(-count * _bits(dtype) // 8)


@functools.cache
def _bits(dtype: str) -> int:
    """Of one entry: the first number in its name."""
    match = re.search(r"\d+", dtype)
    return _BITS.get(dtype, int(match[0]) if match else 0)
