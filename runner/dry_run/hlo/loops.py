"""Trip counts of compiled loops."""

import re

from runner.dry_run.hlo.parse import Computation, Instruction, Module, parts

_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ALIKE = ("copy", "bitcast", "convert", "reshape")


def trips(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """Trips of the `while` in `caller`, or None where its data decide.

    The compiler of CPUs and GPUs notes the number. That of TPUs does not: there it is
    `(limit - start) / step` of a condition `i < limit` with constants, where `i` is one
    element of what the loop carries.
    """
    match = _TRIP_COUNT.search(loop.attributes)
    if match:
        return int(match[1])

    # `i < limit`, i being an element of what the loop carries.
    condition = module.computations[loop.attribute("condition") or ""]
    body = module.computations[loop.attribute("body") or ""]
    test = condition.instructions[condition.root]
    if test.opcode != "compare" or test.attribute("direction") != "LT":
        return None
    index, limit = (condition.instructions[name] for name in test.inputs)
    position = index.attribute("index")
    if index.opcode != "get-tuple-element" or position is None:
        return None

    # Where i starts, and by how much it grows.
    end = _constant(condition, limit.name)
    start = _constant(caller, _element(caller, loop.inputs[0], int(position)))
    step = _increment(body, int(position))
    if end is None or start is None or not step:
        return None
    return max(-(-(end - start) // step), 0)


def _element(computation: Computation, name: str, position: int) -> str:
    """The name of an element of a tuple, or of the tuple where it is no plain one."""
    producer = computation.instructions[name]
    whole = producer.opcode == "tuple" and len(producer.inputs) == len(
        parts(producer.shape)
    )
    return producer.inputs[position] if whole else name


def _constant(computation: Computation, name: str) -> int | None:
    producer = _uncopied(computation, name)
    if producer.opcode == "constant" and re.fullmatch(r"-?\d+", producer.operands):
        return int(producer.operands)
    return None


def _increment(body: Computation, position: int) -> int | None:
    """Return the increment of an element in one trip, if it is a constant."""
    last = _uncopied(body, _element(body, body.root, position))
    if last.opcode != "add":
        return None
    read, added = None, None
    for name in last.inputs:
        producer = _uncopied(body, name)
        if producer.opcode == "get-tuple-element":
            read = producer.attribute("index")
        else:
            added = _constant(body, name)
    return added if read == str(position) else None


def _uncopied(computation: Computation, name: str) -> Instruction:
    """The instruction whose value an element is, through copies of it."""
    producer = computation.instructions[name]
    while producer.opcode in _ALIKE:
        producer = computation.instructions[producer.inputs[0]]
    return producer
