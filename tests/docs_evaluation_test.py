"""The files and commands of docs/evaluation.md, as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from runner import main
from runner.sampling import main as sampling

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "evaluation.md").read_text()
SAVED = ROOT / "tests" / "compatibility" / "saved_4c223cb"
COMMANDS = re.findall(r"^    (runner[^\n]*)$", PAGE, re.MULTILINE)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """What the commands take for granted: a text, prompts, four runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for run in ("teacher", "pruned", "distilled", "assistant"):
        # The saved student is the better one: here it teaches, so that there is a gap.
        kind = "student" if run == "teacher" else "teacher"
        shutil.copytree(SAVED / kind, tmp_path / "runs" / run)
    for part in ("records", "teacher"):  # that the saved student's run names
        shutil.copytree(SAVED / part, tmp_path / part)
    shutil.copy(SAVED / "text.txt", tmp_path)
    (tmp_path / "prompts.txt").write_text("one\nand another\n")
    for name, file in re.findall(
        r"`(\w+\.py)`\n\n```python\n(.*?)```", PAGE, re.DOTALL
    ):
        (tmp_path / name).write_text(file)


@pytest.mark.slow  # each part has a test of its own
def test_the_commands_of_the_page_do_what_it_says(there, capsys):
    ours = [shlex.split(line) for line in COMMANDS if "SmolLM2" not in line]
    assert len(ours) == 7
    for command in ours:
        if command[:2] == ["runner", "report"]:
            assert main.main(command) == 0, command
        elif command[0] == "runner":
            assert main.main([*command, "--gin.input.cache=cache"]) == 0, command
        else:
            assert sampling.main(command[1:]) == 0, command
    printed = capsys.readouterr().out
    for part in ("newest (step 4)", "rank_of_target", "gap closed", "def main("):
        assert part in printed
    assert "> cut alone" in printed
    assert Path("runs/comparison.html").exists()
    for page in ("runs/compared/report.html", "runs/teacher/evaluation/report.html"):
        assert Path(page).exists()
