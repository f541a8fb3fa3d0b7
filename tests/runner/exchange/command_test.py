"""The command, from a config file to records that its data is taught by."""

import json
from pathlib import Path

import pytest

from runner.exchange.kinds import READERS
from runner.exchange.main import main
from runner.exchange.rows_of import dataset_of
from runner.records.reader import Records
from tests.runner.exchange import producers
from tests.runner.records.sets import VOCABULARY

ROOT = Path(__file__).parents[3]
CONFIG = """
import fiddle as fdl
import runner


def data(root=None):
    return fdl.Config(
        runner.data.TokenizedText,
        documents=fdl.Config(runner.data.TextFiles, files=["{folder}/*.txt"]),
        tokenizer=fdl.Config(runner.data.TokenizerFile, file="{folder}/tokenizer.json"),
        sequence_length=16,
    )


def config():
    return fdl.Config(runner.RecordTeacher, data=data())
"""


@pytest.fixture(name="config")
def _config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in {"a": "to be or not to be", "b": "that is the question"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    VOCABULARY.tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def test_prompts_answered_by_a_server_become_records(config, tmp_path, capsys):
    prompts, answers, to = (tmp_path / x for x in ("asked.jsonl", "said.jsonl", "to"))
    assert main(["prompts", f"--data={config}", f"--to={prompts}"]) == 0
    lines = prompts.read_text().splitlines()
    asked = [json.loads(line)["prompt"] for line in lines]
    producers.write_lines(answers, map(producers.vllm_answer, asked))
    arguments = ["--from=vllm", f"--data={config}:data", f"--to={to}"]
    assert main(["import", str(answers), *arguments]) == 0
    said = capsys.readouterr()
    assert f"{to}: 3 records of 16 tokens, 5 entries each; the next" in said.out
    assert not said.err
    records = Records.load(to)
    records.check_data(dataset_of(str(config)).fingerprint)
    assert main(["verify", str(to)]) == 0


def test_mistakes_are_a_line_and_code_2(config, tmp_path, capsys):
    arguments = ["import", str(tmp_path / "none"), f"--to={tmp_path}/to"]
    for mistake, message in {
        f"--from=vllm --data={config}": "no such file or folder",
        f"--from=vlm --data={config}": "no kind of scores 'vlm'; did you mean 'vllm'?",
        f"--from=vllm --data={tmp_path}/no.py": "no.py",
        "--from=vllm": "required: --data",
        f"--from=vllm --data={config} --entries=0": "entries must be at least 1, got 0",
    }.items():
        assert main([*arguments, *mistake.split()]) == 2
        said = capsys.readouterr().err
        assert said.startswith("runner-records: ") and message in said, said
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "to").exists()


def test_help_and_page_name_every_kind(capsys):
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    said = capsys.readouterr().out
    page = (ROOT / "docs" / "teachers.md").read_text()
    for kind in READERS:
        assert kind in said and f"\n| `{kind}` |" in page
