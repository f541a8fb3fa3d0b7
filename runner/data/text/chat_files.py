"""Chat templates and the names of special tokens, as a tokenizer's files hold them."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.files import form

TEMPLATE = "chat_template.jinja"
_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclasses.dataclass(frozen=True)
class ChatFiles:
    """Templates of a tokenizer, and what they read beside the messages.

    Attributes:
      templates: Source by name; the usual one is "default".
      variables: Names of special tokens: `bos_token`, `eos_token`, ...
    """

    templates: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def files(self) -> Mapping[str, str]:
        """Return the files that `read` reads back, by name: of templates the usual."""
        files = {}
        if self.variables:
            config = json.dumps(dict(self.variables), indent=1, sort_keys=True)
            files["tokenizer_config.json"] = config + "\n"
        if "default" in self.templates:
            files[TEMPLATE] = self.templates["default"]
        return files


def read(folder: Path) -> ChatFiles:
    """Return what the files beside a `tokenizer.json` say, as transformers reads them.

    `chat_template.jinja` and `additional_chat_templates/NAME.jinja` come before the
    `chat_template` of `tokenizer_config.json`; names of tokens that it leaves out are
    in `special_tokens_map.json`.

    Raises:
      UserError: A file is not of its form.
    """
    config = form.entries(folder / "tokenizer_config.json")
    names = {**form.entries(folder / "special_tokens_map.json"), **config}
    variables = {
        f"{name}_token": token
        for name in _NAMES
        if (token := _content(names.get(f"{name}_token"))) is not None
    }
    additional = names.get("additional_special_tokens")
    if isinstance(additional, list) and additional:
        variables["additional_special_tokens"] = list(map(_content, additional))
    return ChatFiles(_templates(folder, config.get("chat_template")), variables)


def _templates(folder: Path, configured: Any) -> dict[str, str]:
    templates: dict[str, str] = {}
    if isinstance(configured, str):
        templates["default"] = configured
    elif isinstance(configured, list):
        templates |= {
            str(entry.get("name")): str(entry.get("template"))
            for entry in configured
            if isinstance(entry, dict)
        }
    files = {"default": folder / TEMPLATE}
    files |= {
        path.stem: path
        for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))
    }
    for name, path in files.items():
        if path.is_file():
            templates[name] = read_template(path)
    return templates


def read_template(path: Path) -> str:
    """Return the source in a file of a template.

    Raises:
      UserError: It cannot be read, or is no text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason})") from error


def _content(token: Any) -> Any:
    """Return the text of a token as a config names it: a string, or with `content`."""
    return token.get("content") if isinstance(token, dict) else token
