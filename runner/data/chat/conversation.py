"""Conversations: messages of a record, in the three usual forms."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.data.chat.template import Message
from runner.data.documents.records import Record, require_unicode
from runner.errors import UserError, nearest

COLUMNS = ("messages", "prompt", "completion", "conversations", "tools")
PAIR_COLUMNS = ("prompt", "chosen", "rejected", "tools")
# Names of ShareGPT, and those of `messages`.
_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool"}


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Messages in order, and the replies among them that are learned.

    Attributes:
      messages: With `role` and `content`, and whatever else the template reads.
      learned: Numbers of the messages of the assistant that count.
      tools: JSON schemas of tools; None without.
      place: Where it is read from, for messages.
    """

    messages: Sequence[Message]
    learned: frozenset[int]
    tools: Sequence[Any] | None
    place: str

    def first(self, count: int) -> "Conversation":
        """Return the conversation up to its message `count`."""
        learned = frozenset(i for i in self.learned if i < count)
        return dataclasses.replace(
            self, messages=self.messages[:count], learned=learned
        )

    def without(self, start: int, stop: int) -> "Conversation":
        """Return the conversation without the messages `start` to `stop`."""
        count = stop - start
        learned = (i if i < start else i - count for i in self.learned)
        return dataclasses.replace(
            self,
            messages=[*self.messages[:start], *self.messages[stop:]],
            learned=frozenset(learned),
        )

    def content(self) -> str:
        """Return all that it says, as one JSON string."""
        says = [self.messages, sorted(self.learned), self.tools]
        return json.dumps(says, ensure_ascii=False, sort_keys=True)


def read(record: Record) -> Conversation:
    """Return the conversation of a record.

    `messages`: objects with `role` and `content`; all replies are learned but for those
    whose `weight` is 0. `prompt` and `completion`: strings, or lists of messages; the
    replies of the completion are learned. `conversations`: objects with `from` and
    `value`, as ShareGPT's.

    Raises:
      UserError: It holds none of them, or they are not of that form.
    """
    values = {name: x for name, x in record.values.items() if x is not None}
    tools = values.get("tools")
    if isinstance(tools, str):
        tools = _parsed(tools, record.place)
    if "messages" in values:
        messages = _messages(values["messages"], "messages", record.place)
        asked = 0
    elif "prompt" in values and "completion" in values:
        prompt = _part(values["prompt"], "user", "prompt", record.place)
        messages = prompt + _part(
            values["completion"], "assistant", "completion", record.place
        )
        asked = len(prompt)
    elif "conversations" in values:
        turns = _require_list(values["conversations"], "conversations", record.place)
        named = [_of_share_gpt(turn) for turn in turns]
        messages = _messages(named, "conversations", record.place)
        asked = 0
    else:
        wanted = "messages, or prompt and completion, or conversations"
        close = nearest("messages", values).replace("; one of", "; it has")
        raise UserError(f"{record.place}: no {wanted}{close}")
    learned = frozenset(
        i
        for i, message in enumerate(messages)
        if i >= asked and message["role"] == "assistant" and message.get("weight") != 0
    )
    return Conversation(messages, learned, tools or None, record.place)


def read_pair(record: Record) -> tuple[Conversation, Conversation, int]:
    """Return the chosen and the rejected conversation, and the length of the prompt.

    `prompt`, `chosen` and `rejected`: strings, or lists of messages. Without a prompt
    it is the messages that both begin with. The replies after it are learned.

    Raises:
      UserError: They are missing, not of that form, or one has no reply.
    """
    values = {name: x for name, x in record.values.items() if x is not None}
    tools = values.get("tools")
    if isinstance(tools, str):
        tools = _parsed(tools, record.place)
    sides = {}
    for name in ("chosen", "rejected"):
        if name not in values:
            raise UserError(f"{record.place}: no field {name!r}{nearest(name, values)}")
        sides[name] = _part(values[name], "assistant", name, record.place)
    prompt = []
    if "prompt" in values:
        prompt = _part(values["prompt"], "user", "prompt", record.place)
        asked = len(prompt)
    else:
        both = zip(*sides.values(), strict=False)
        asked = sum(1 for _ in itertools.takewhile(lambda x: x[0] == x[1], both))
    pair = []
    for name, side in sides.items():
        messages = [*prompt, *side]
        learned = frozenset(
            i
            for i, message in enumerate(messages)
            if i >= asked and message["role"] == "assistant"
        )
        if not learned:
            raise UserError(
                f"{record.place}: {name!r} has no reply of the assistant after the "
                f"prompt of {asked} messages"
            )
        pair.append(Conversation(messages, learned, tools or None, record.place))
    return pair[0], pair[1], asked


def _part(value: Any, role: str, column: str, place: str) -> list[Message]:
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    return _messages(value, column, place)


def _messages(value: Any, column: str, place: str) -> list[Message]:
    if isinstance(value, str):  # tables without nested columns hold JSON
        value = _parsed(value, place)
    messages = []
    for number, message in enumerate(_require_list(value, column, place), start=1):
        where = f"{place}: message {number} of {column!r}"
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            names = nearest("role", message) if isinstance(message, Mapping) else ""
            raise UserError(f"{where} is no object with a 'role'{names}")
        # A table writes None where a message has no such key.
        said = {k: _bare(x) for k, x in message.items() if x is not None}
        said.setdefault("content", None)
        if said["content"] is None and message["role"] != "assistant":
            raise UserError(f"{where} has no 'content'{nearest('content', message)}")
        require_unicode(json.dumps(said, ensure_ascii=False), where)
        messages.append(said)
    return messages


def _bare(value: Any) -> Any:
    """Return a nested value without the keys that a table fills up with None."""
    if isinstance(value, Mapping):
        return {key: _bare(x) for key, x in value.items() if x is not None}
    return [_bare(x) for x in value] if isinstance(value, list) else value


def _of_share_gpt(turn: Any) -> Any:
    if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
        return turn
    return {"role": _ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}


def _require_list(value: Any, column: str, place: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        kind = "an empty list" if value == [] else type(value).__name__
        raise UserError(f"{place}: {column!r} must be a list of messages, got {kind}")
    return value


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{place}: a string that is no JSON: {str(error).partition(';')[0]}"
        ) from error
