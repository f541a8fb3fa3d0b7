"""Chat templates of published models, against `transformers`: `make tokenizers`.

The templates are those that the wheel of TRL 1.16.0 carries, of Qwen, Llama, Gemma,
DeepSeek, GLM, gpt-oss, Phi, Cohere, Nemotron, LFM and others, as published and with
`generation` blocks. Each must write every conversation of
`tests/runner/data/chat/templates.py` as `apply_chat_template` of transformers 4.57.6
does, or refuse it as well. With the tokenizers of five of them, ids and masks must be
the same too.
"""

import functools
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from runner import data
from runner.data.chat.conversation import read
from runner.data.chat.encoding import Encoder
from runner.data.chat.template import ChatTemplate, Refused
from runner.data.documents.records import Record
from runner.errors import UserError
from tests.parity.real_tokenizers import PACKAGES, fetch
from tests.runner.data.chat.templates import CONVERSATIONS, TEMPLATES, VARIABLES

OF_TRANSFORMERS = Path(__file__).with_name("chat_templates.py")
KEPT = Path(__file__).parents[1] / "runner/data/chat/rendered.json"
TRL = "trl==1.16.0"
DATE = "2024-07-26"
# The tokenizer that a template is published with.
TOKENIZERS = {
    **{name: "qwen3" for name in ("qwen3", "qwen3_training")},
    **{name: "gemma3" for name in ("gemma3", "gemma3_training")},
    **{name: "llama3" for name in ("llama3", "llama3_training")},
    **{name: "llama3_1" for name in ("llama3_1", "llama3_2")},
    **{name: "deepseek_v3" for name in ("deepseekv3", "deepseekv3_training")},
}


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        own = answers(python, root, {"templates": TEMPLATES})
        kept = json.loads(KEPT.read_text(encoding="utf-8"))
        wrong = [] if own["rendered"] == kept["rendered"] else [KEPT.name]
        templates = published(root)
        for name in set(TOKENIZERS.values()):
            fetch(PACKAGES[name], root / name)
        folders = {name: str(root / folder) for name, folder in TOKENIZERS.items()}
        expected = answers(
            python, root, {"templates": templates, "tokenizers": folders}
        )
        print(f"transformers {expected['transformers']}, {len(templates)} templates")
        for key, text in expected["rendered"].items():
            name, case = key.split("/")
            if text != rendered(templates[name], CONVERSATIONS[case]):
                wrong.append(key)
        print(f"{len(expected['rendered'])} texts, {len(wrong)} differ")
        same = 0
        for key, both in expected["encoded"].items():
            name, case = key.split("/")
            equal = agrees(both, folders[name], templates[name], CONVERSATIONS[case])
            same += equal
            wrong += [] if equal else [f"ids of {key}"]
        print(f"{same} of {len(expected['encoded'])} conversations have the same ids")
    if wrong:
        raise SystemExit(f"these differ: {', '.join(wrong)}")


def answers(python: str, root: Path, asked: dict) -> dict:
    """What `transformers` makes of the conversations."""
    file = root / "asked.json"
    asked = {**asked, "conversations": CONVERSATIONS, "variables": VARIABLES}
    file.write_text(json.dumps(asked), encoding="utf-8")
    command = [python, str(OF_TRANSFORMERS), str(file)]
    return json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))


def published(root: Path) -> dict[str, str]:
    """The templates in the wheel of TRL, by name."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--quiet", "--no-deps", "--dest", str(root), TRL]
    subprocess.run(command, check=True)
    (wheel,) = root.glob("trl-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {
            Path(name).stem: archive.read(name).decode()
            for name in archive.namelist()
            if name.endswith(".jinja")
        }


def compiled(source: str, variables: dict) -> ChatTemplate:
    return ChatTemplate(source, variables=variables, date=DATE, place="it")


def rendered(source: str, conversation: dict) -> list | None:
    """Text and marked spans, as `chat_templates.rendered`."""
    try:
        rendering = compiled(source, VARIABLES).render(
            conversation["messages"],
            tools=conversation.get("tools"),
            prompt=conversation.get("prompt", False),
        )
    except Refused:
        return None
    return [rendering.text, [list(span) for span in rendering.replies]]


@functools.cache
def loaded(folder: str) -> tuple[dict, data.Vocabulary]:
    """Names of special tokens, and the vocabulary, of a folder."""
    tokenizer = data.TokenizerFile(f"{folder}/tokenizer.json")
    return dict(tokenizer.chat_files().variables), tokenizer.load()


def agrees(both: list | None, folder: str, source: str, conversation: dict) -> bool:
    """Compare ids, and the mask where the template marks what the assistant writes."""
    variables, vocabulary = loaded(folder)
    template = compiled(source, variables)
    encoder = Encoder(template, vocabulary, longest=1 << 20)
    record = {name: x for name, x in conversation.items() if name != "prompt"}
    one = read(Record("it", "it", record))
    try:
        ((ids, learned, _),) = encoder.encode_all([one])
    except UserError:
        # Where a call lies, a template without marks may not say.
        return both is None or not template.marks_replies
    if both is None or ids.tolist() != both[0]:
        return False
    mask = np.array(both[1], bool)
    return not template.marks_replies or np.array_equal(learned, mask)


if __name__ == "__main__":
    main(sys.argv[1])
