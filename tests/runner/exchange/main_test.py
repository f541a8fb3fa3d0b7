import dataclasses
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from runner.exchange.main import main
from runner.records import shards
from runner.records.format import Layout, encode_batch
from runner.records.manifest import code_version
from runner.records.verify import verify
from runner.writers.terminal import Terminal
from tests.runner.records import sets

TOP = Layout(mode="top_k", entries=5, vocab_size=257, sequence_length=16)
LAYOUTS = {
    "the 5 best of 257": TOP,
    "9 draws from 257": dataclasses.replace(TOP, mode="sampled", entries=9),
    "all 257": dataclasses.replace(TOP, mode="full", entries=257, temperatures=()),
}


@pytest.mark.parametrize("entries", LAYOUTS)
def test_inspect_says_what_records_are(entries, tmp_path, capsys):
    origin = sets.ORIGIN
    if "draws" in entries:
        origin = dataclasses.replace(origin, sampling=(1.5, 7))
    made = sets.make(tmp_path / "records", LAYOUTS[entries], origin=origin)
    assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for part in [
        entries,
        "12 of 16 tokens",
        "in 2 files",
        "bytes a token",
        "Transformer, 2 layers, float32",
        origin.weights,
        f"{made.manifest.hit_rate:.1%} of {made.manifest.targets:,} next tokens",
        "row 0: the last tokens",
    ]:
        assert part in said
    assert ("at temperature 1.5, seed 7" in said) == ("draws" in entries)
    assert "one position off" not in said
    assert len(said.splitlines()) < 30


def test_inspect_shows_the_best_guess_and_its_probability(tmp_path, capsys):
    made = sets.make(tmp_path, TOP)
    main(["inspect", str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[-1]
    place = int(line.split()[0])
    best = int(made.stored["indices"][0, place, 0])
    share = np.exp(-made.stored["log_normalizers"][0, place, 0])
    assert f"{sets.VOCABULARY.decode([best])!r} {share:.0%}" in line


def test_inspect_notices_a_teacher_recorded_one_position_off(tmp_path, capsys):
    made = sets.make(tmp_path / "a", dataclasses.replace(TOP, vocab_size=100))
    late = made.data | {"targets": made.data["tokens"]}
    stored = sets.said(np.random.default_rng(0), made.layout, late)
    off = encode_batch(made.layout, indices=range(12), rows=made.data, stored=stored)
    sets.put(tmp_path / "b", made.layout, off)
    assert main(["inspect", str(tmp_path / "b")]) == 0
    assert "was the teacher recorded one position off?" in capsys.readouterr().out


def test_verify_answers_in_a_line(tmp_path, capsys):
    sets.make(tmp_path / "records", TOP)
    assert main(["verify", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path}: 12 records in 2 files, 262kB, all whole;")
    assert len(said.out.splitlines()) == 1 and not said.err


def test_what_is_wrong_ends_with_code_2_and_its_reason(tmp_path, capsys):
    sets.make(tmp_path, TOP)
    path = tmp_path / shards.shard_name(1, 2)
    os.truncate(path, 100)
    for command in ("verify", "inspect"):
        assert main([command, str(tmp_path)]) == 2
        said = capsys.readouterr()
        assert not said.out
        assert said.err.startswith(f"runner-records: {path} has 100 bytes, 131072 were")
        assert len(said.err.splitlines()) <= 3


def test_progress_is_drawn_on_a_terminal_only(tmp_path, monkeypatch):
    sets.make(tmp_path, TOP)
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    verify(tmp_path, Terminal(stream))
    assert stream.getvalue() == ""
    stream.isatty = lambda: True
    verify(tmp_path, Terminal(stream))
    assert "sha256 of records-00001-of-00002" in stream.getvalue()
    assert "100%  records" in stream.getvalue()


def test_the_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "runner.exchange"]
    run = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "verify" in run.stdout
    run = subprocess.run([*command, "verify", "absent"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == (
        "runner-records: no such directory of teacher records: absent\n"
    )
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_the_code_that_writes_has_a_version():
    assert code_version().startswith("retort 0.")
    assert code_version() == code_version()
