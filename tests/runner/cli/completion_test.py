"""What a shell is offered for the word under its cursor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from argcomplete.finders import CompletionFinder
from argcomplete.lexers import split_line
from argcomplete.shell_integration import shellcode

from runner.cli import completion, flags

ROOT = Path(__file__).parents[3]


def offered(line):
    """The completions of the last word of `line`.

    The way around argcomplete's own entry, which takes the descriptors 8 and 9.
    """
    finder = CompletionFinder(completion.parser(line), always_complete_options="long")
    prequote, prefix, _, words, colon = split_line(line, len(line))
    offers = finder._get_completions(words, prefix, prequote, colon)
    return {offer.strip() for offer in offers}


def test_every_flag_is_offered():
    words = offered("runner --")
    assert words == {f"--{name}" for name in flags.NAMES}
    assert offered("runner --fdl_c") == {
        "--fdl_config",
        "--fdl_config_file",
    }


def test_values_are_files_kinds_names_and_functions_of_the_config(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "configs/dense.py" in offered("runner --fdl_config configs/de")
    assert "runtime/cpu.gin" not in offered("runner --fdl_config configs/runtime/c")
    assert offered("runner --list lo") == {"losses"}
    assert offered("runner --describe losses.Forw") == {"losses.ForwardKL"}
    assert offered("runner --fdl_config configs/moe.py --fiddler ste") == {"steps"}
    assert "--gin.loop.log_every" in offered("runner --gin.loop.lo")
    assert offered("runner rep") == {"report"}
    assert offered("runner report doc") == {"docs/"}


def test_the_file_is_read_and_does_not_run(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def config():\n  pass\ndef wide(cfg, n):\n  pass\nraise SystemExit"
    )
    assert completion.functions(str(file)) == ["wide"]
    assert completion.functions(str(tmp_path / "none.py")) == []
    file.write_text("def (")
    assert completion.functions(str(file)) == []


def test_bash_asks_the_command_itself(tmp_path):
    """As `eval "$(register-python-argcomplete runner)"` and a TAB do it."""
    command = tmp_path / "runner"
    command.write_text(f"#!{sys.executable}\nfrom runner import main\nmain.run()\n")
    command.chmod(0o755)
    asked = ["runner --prin", "runner --fdl_config=configs/moe.py --fiddler=ste"]
    lines = [shellcode(["runner"])]
    for line in asked:
        lines += [
            f"COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_TYPE=9; COMPREPLY=()",
            "_python_argcomplete runner '' ''; echo ${COMPREPLY[*]}",
        ]
    bash = shutil.which("bash")
    assert bash
    ended = subprocess.run(
        [bash, "--norc", "-c", "\n".join(lines)],
        cwd=ROOT,
        env=os.environ
        | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["--print_config", "steps"]
