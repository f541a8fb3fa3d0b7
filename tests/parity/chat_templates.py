"""What `transformers` makes of chat templates; run in its own environment.

    chat_templates.py FILE

FILE is JSON: `templates`, `conversations`, `variables`, and `tokenizers`, the folder of
one by the name of a template. The day is 2024-07-26, as in `runner.data.Chat`.
"""

# Transformers is in .venv-tokenizers, which the linters do not see.
# pyright: reportMissingImports=false

import datetime
import functools
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers
from transformers.utils import chat_template_utils


class _Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def rendered(source, conversation, variables):
    """Text and marked spans; None where the template raises."""
    try:
        (text,), spans = chat_template_utils.render_jinja_template(
            [conversation["messages"]],
            tools=conversation.get("tools"),
            chat_template=source,
            return_assistant_tokens_mask=True,
            add_generation_prompt=conversation.get("prompt", False),
            **variables,
        )
    except Exception:
        return None
    return [text, spans[0]]


_tokenizer = functools.cache(transformers.AutoTokenizer.from_pretrained)


def encoded(source, conversation, folder):
    """Ids and the mask of the assistant's; None where the template raises."""
    try:
        both = _tokenizer(folder).apply_chat_template(
            conversation["messages"],
            tools=conversation.get("tools"),
            chat_template=source,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except Exception:
        return None
    return [both["input_ids"], both["assistant_masks"]]


def main(path):
    with open(path, encoding="utf-8") as file:
        asked = json.load(file)
    chat_template_utils.datetime = _Day
    cases = [
        (f"{name}/{case}", name, conversation)
        for name in asked["templates"]
        for case, conversation in asked["conversations"].items()
    ]
    sources, folders = asked["templates"], asked.get("tokenizers", {})
    answers = {
        "transformers": transformers.__version__,
        "rendered": {
            key: rendered(sources[name], conversation, asked["variables"])
            for key, name, conversation in cases
        },
        "encoded": {
            key: encoded(sources[name], conversation, folders[name])
            for key, name, conversation in cases
            if name in folders and not conversation.get("prompt")
        },
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
