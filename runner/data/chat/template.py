"""Chat templates: conversations to text, as `apply_chat_template` writes it."""

import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from runner.data.chat.sandbox import Environment
from runner.errors import UserError

Message = Mapping[str, Any]

_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclasses.dataclass(frozen=True)
class Rendering:
    """Text of a conversation.

    Attributes:
      text: The whole of it.
      replies: Where the template says that the assistant writes, (start, end).
    """

    text: str
    replies: Sequence[tuple[int, int]]


class Refused(Exception):
    """A template that does not render a conversation, and why, in one line."""


class ChatTemplate:
    """A template, compiled in its sandbox.

    Attributes:
      source: Of the template.
      marks_replies: True if it has `generation` blocks.
    """

    def __init__(
        self, source: str, *, variables: Mapping[str, Any], date: str, place: str
    ) -> None:
        """Compile a template.

        Args:
          source: Of the template.
          variables: That it reads beside the messages: `bos_token`, ...
          date: That `strftime_now` writes, `2024-07-26`.
          place: Where it is from, for messages.

        Raises:
          UserError: It is no template; the date is none.
        """
        self.source, self._variables, self._date = source, dict(variables), date
        try:
            self._environment = Environment(datetime.date.fromisoformat(date))
        except ValueError as error:
            raise UserError(f"date must be like 2024-07-26, got {date!r}") from error
        try:
            self._template = self._environment.compiled(source)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"{place} is no chat template: line {error.lineno}: {error.message}"
            ) from error
        except RecursionError as error:
            raise UserError(f"{place} is nested too deep") from error
        self.marks_replies = bool(_MARK.search(source))

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        prompt: bool = False,
    ) -> Rendering:
        """Return the text of a conversation.

        Args:
          messages: With `role` and `content`, and whatever else the template reads.
          tools: JSON schemas of tools.
          prompt: Whether to end with what the assistant's next reply begins with.

        Raises:
          Refused: The template raises, or does more than a template may.
        """
        variables = {
            **self._variables,
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": prompt,
        }
        try:
            text = self._environment.render(self._template, variables)
        except RecursionError as error:
            raise Refused("it calls itself without end") from error
        except MemoryError as error:
            raise Refused("it takes more memory than there is") from error
        except Exception as error:  # a template raises whatever Python does
            reason = " ".join(str(error).split())[:300]
            raise Refused(reason or type(error).__name__) from error
        return Rendering(text, tuple(self._environment.spans))

    @property
    def digest(self) -> str:
        """Hash of all that decides a text, 32 hexadecimal digits."""
        content = json.dumps([self.source, self._variables, self._date], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
