"""Commands of `docs/start.md`, and what a refusal offers."""

import re
import shlex

import fiddle as fdl
import pytest

from runner import starts
from runner.cli import command_graph, flags
from runner.errors import UserError
from runner.main import main
from runner.workdir import opening
from tests.results.curves import WHOLE_TEXT
from tests.runner.runs import ROOT


def commands(folder):
    """Each command of the page, on the configs of this checkout, in a folder."""
    page = (ROOT / "docs" / "start.md").read_text()
    for line in re.findall(r"^    runner (.*)$", page, re.MULTILINE):
        line = line.replace("configs/", f"{ROOT}/configs/")
        yield shlex.split(line.replace("runs/", f"{folder}/"))


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path, capsys):
    first, again, longer, last, dry = commands(tmp_path)
    tiny = [*WHOLE_TEXT, "--fdl.num_steps=4", "--fdl.evaluations=()"]
    assert main(["runner", *first, *tiny]) == 0
    assert main(["runner", *again, *tiny]) == 0
    longer = [word.replace("1500", "6") for word in longer]
    assert main(["runner", *longer]) == 0
    assert main(["runner", *last, *tiny, "--fdl.trainable=blocks/1/*"]) == 0
    assert main(["runner", *dry, *tiny]) == 0
    output = capsys.readouterr().out
    assert re.search(r"start: .*/dense: \d+ loaded of \d+", output)
    assert "start: " in output and "whole, after step 4" in output and "6/6" in output
    assert re.search(r"\d frozen parameters, ", output)


def test_a_run_that_is_only_to_be_longer_is_told_how(tmp_path):
    cfg = fdl.Config(fdl.Config, num_steps=100, seed=3)
    with opening.open_workdir(tmp_path, cfg, ["runner"]):
        pass
    (tmp_path / "data.json").touch()
    cfg.num_steps = 200
    with (
        pytest.raises(UserError) as refused,
        opening.open_workdir(tmp_path, cfg, ["runner"]),
    ):
        pass
    offered = re.search(r"there: runner (.*) --workdir=NEW$", str(refused.value))
    assert offered is not None, refused.value
    command = flags.parse([*shlex.split(offered[1]), "--workdir=NEW"])
    assert command.config_file == str(tmp_path / "config.json")
    (fiddler,) = command.overrides
    assert fiddler.value == f'longer(steps=200, of="{tmp_path}")'
    for changes in ({"num_steps": 50}, {"num_steps": 200, "seed": 4}):
        other = fdl.copy_with(cfg, **changes)
        with (
            pytest.raises(UserError, match="a graph not"),
            opening.open_workdir(tmp_path, other, ["runner"]),
        ):
            pass


def test_functions_for_any_config_set_the_start(tmp_path):
    base = [f"--fdl_config={ROOT}/configs/dense.py", "--print_config"]

    def start(expression):
        command = flags.parse([*base, f"--fiddler={expression}"])
        return command_graph.resolve(command)

    longer = start('longer(1500, of="runs/a")')
    assert (longer.num_steps, longer.start.workdir) == (1500, "runs/a")
    assert fdl.get_callable(longer.start) is starts.Continued
    (tmp_path / "checkpoints").mkdir()
    run = start(f'start_from("{tmp_path}", step=3)').start
    assert fdl.get_callable(run) is starts.Run and run.step == 3
    llama = ROOT / "tests" / "models" / "pretrained" / "fixtures" / "llama"
    published = start(f'start_from("{llama}")').start
    assert fdl.get_callable(published) is starts.Published
    with pytest.raises(UserError, match="no such file or folder"):
        start('start_from("absent")')
    with pytest.raises(UserError, match=r"dense.py: no function 'longest'"):
        start("longest(3)")
