"""The commands of docs/tutorial.md, in their order, with fewer steps and seeds."""

import re
import shlex
import shutil

import pytest

from runner import main
from tests.architecture.imports import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"^    (runner [^\n]*)$", PAGE, re.MULTILINE)
QUICK = ["--fdl.num_steps=2", "--fdl.optimizer.learning_rate.warmup_steps=1"]
QUICK += ["--gin.loop.quiet=True", "--gin.input.cache=cache"]


@pytest.mark.slow  # a teacher, four students, each a process
def test_the_tutorial_ends_in_a_table_with_intervals_and_a_page(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    texts = tmp_path / "runs" / "texts"
    texts.mkdir(parents=True)
    for name in ("docs/arithmetic.md", "docs/data.md", "docs/tour.md", "README.md"):
        shutil.copy(ROOT / name, texts)
    for number in range(12):  # so that a tenth of the documents is some
        (texts / f"{number}.txt").write_text(f"Note {number}.\n" * 40)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "runs" / "mine.py").write_text(code)

    assert len(COMMANDS) == 5
    for command in COMMANDS:
        _, *words = shlex.split(command.replace("--seeds=3", "--seeds=2"))
        if words[0] != "report" and "--print_config" not in words:
            words += QUICK
        assert main.main(["runner", *words]) == 0, command
    printed = capfd.readouterr().out
    assert "TotalVariation" in printed and "95 %" in printed
    assert (tmp_path / "runs" / "comparison.html").exists()
