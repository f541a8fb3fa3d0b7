"""Spans of the assistant's replies in the text of a conversation."""

import os
import re
from collections.abc import Sequence

from runner.data.chat.conversation import Conversation
from runner.data.chat.template import ChatTemplate, Message, Refused, Rendering

# A text of its own, of characters for private use, that no conversation holds.
_STAND_IN = "\ue5f0\ue5f1stand-in\ue5f1\ue5f0"


def spans(
    template: ChatTemplate,
    conversation: Conversation,
    rendering: Rendering,
    special: re.Pattern[str],
) -> list[tuple[int, int]]:
    """Return the part of the text that each learned reply makes the assistant write.

    Where the template has `generation` blocks they say so. Otherwise a reply begins
    after the prompt for it, as the template writes that with `add_generation_prompt`,
    and ends with its content and the special token that follows: the end of the turn.

    Args:
      template: Of the text.
      conversation: With at least one learned reply.
      rendering: Of the conversation.
      special: Matches white space and the name of a special token.

    Returns:
      (start, end) in characters, by reply.

    Raises:
      Refused: It cannot be told where a reply lies.
    """
    roles = [message["role"] for message in conversation.messages]
    assistant = [i for i, role in enumerate(roles) if role == "assistant"]
    if template.marks_replies:
        marked = rendering.replies
        if conversation.learned == frozenset(assistant):
            return list(marked)
        if len(marked) != len(assistant):
            raise Refused(
                f"it marks {len(marked)} parts for {len(assistant)} replies, of which "
                "only some are learned"
            )
        pairs = zip(assistant, marked, strict=True)
        return [span for i, span in pairs if i in conversation.learned]
    return [
        _reply(template, conversation, rendering.text, number, special)
        for number in sorted(conversation.learned)
    ]


def _reply(
    template: ChatTemplate,
    conversation: Conversation,
    text: str,
    number: int,
    special: re.Pattern[str],
) -> tuple[int, int]:
    before, after = _around(template, conversation, text, number)
    end = len(text) - len(after)
    content = _common(text, before)
    start = min(_prompt_end(template, conversation, text, number) or content, end)
    turn_end = special.match(text, end)
    return start, turn_end.end() if turn_end else end


def _around(
    template: ChatTemplate, conversation: Conversation, text: str, number: int
) -> tuple[str, str]:
    """Return the text before and after the content of a message.

    They are those around a stand-in of it; the text must end with the latter.
    """
    message = conversation.messages[number]
    stand_ins: list[Message] = [{"role": message["role"], "content": _STAND_IN}]
    if not message.get("tool_calls"):  # which stand after the content
        stand_ins.append({**message, "content": _STAND_IN})
    for stand_in in stand_ins:
        messages = list(conversation.messages)
        messages[number] = stand_in
        try:
            other = template.render(messages, tools=conversation.tools).text
        except Refused:
            continue
        before, found, after = other.rpartition(_STAND_IN)
        if (
            found
            and text.endswith(after)
            and not _answered(
                template, conversation, text, number, len(text) - len(after)
            )
        ):
            return before, after
    raise Refused(
        f"it cannot be told where it writes message {number + 1}; put "
        "{% generation %} and {% endgeneration %} around what the assistant writes"
    )


def _answered(
    template: ChatTemplate,
    conversation: Conversation,
    text: str,
    number: int,
    end: int,
) -> bool:
    """Return True if the answer of a tool to a message begins before its `end`.

    Some templates write both as one turn, which a stand-in without a call ends early.
    """
    following = number + 1
    messages = list(conversation.messages)
    if following == len(messages) or messages[following]["role"] != "tool":
        return False
    messages[following] = {**messages[following], "content": _STAND_IN}
    try:
        other = template.render(messages, tools=conversation.tools).text
    except Refused:
        return True
    return _common(text, other.partition(_STAND_IN)[0]) < end


def _prompt_end(
    template: ChatTemplate, conversation: Conversation, text: str, number: int
) -> int | None:
    """Return where the prompt for a reply ends; None where the text has none."""
    earlier = conversation.messages[:number]
    try:
        asked = template.render(earlier, tools=conversation.tools, prompt=True).text
        bare = template.render(earlier, tools=conversation.tools).text
    except Refused:  # templates may want a question first
        return None
    # A prompt may open a thought that the text of earlier turns leaves out.
    end = _common(text, asked)
    return end if end >= _common(bare, asked) else None


def _common(a: str, b: str) -> int:
    """Return the length of what both begin with."""
    return len(os.path.commonprefix([a, b]))  # noqa: RUF071 - of texts, not of paths


def ends(specials: Sequence[str]) -> re.Pattern[str]:
    """Return what matches white space and the name of a special token."""
    names = "|".join(re.escape(name) for name in sorted(specials, key=len)[::-1])
    return re.compile(rf"\s*(?:{names})" if names else r"(?!)")
