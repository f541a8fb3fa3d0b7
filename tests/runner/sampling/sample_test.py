"""Texts after prompts: of runs and published models, by the job and the command."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from models.decoding.contrast import Contrast
from models.decoding.draws import Draws
from models.decoding.generate import generate
from runner import Sample, runtime
from runner.errors import UserError
from runner.machine import compiled_programs
from runner.sampling import main, prompts, text_model
from runner.weights.location import Location
from runner.workdir.workdir import Workdir
from tests.models.pretrained.tables import FIXTURES
from tests.runner.sampling.folders import published

TEACHER = str(Path(__file__).parents[2] / "compatibility/saved_4c223cb/teacher")
PROMPTS = ["the", "", "a longer prompt than those, and then some"]
DRAWN = Draws(temperature=1.0, top_k=50, top_p=0.9)


def sample(**fields):
    return Sample(**{"model": TEACHER, "prompts": PROMPTS, "num_tokens": 8, **fields})


@pytest.fixture(scope="module")
def together():
    return list(sample(draws=DRAWN).continuations())


def test_prompts_go_on_together_as_each_does_in_a_batch_of_its_own(together):
    assert [one.prompt for one in together] == PROMPTS
    assert len({one.text for one in together}) == 3
    assert list(sample(draws=DRAWN, batch_size=1).continuations()) == together


def test_the_seed_decides_what_is_drawn(together):
    again, other = (list(sample(draws=DRAWN, seed=s).continuations()) for s in (0, 1))
    assert again == together != other


def test_the_job_writes_what_it_prints(together, tmp_path, capsys):
    sample(draws=DRAWN).run(Workdir(tmp_path))
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert [json.loads(x) for x in lines] == [dataclasses.asdict(x) for x in together]
    assert capsys.readouterr().out == "".join(
        f"{x.prompt}{x.text}\n\n" for x in together
    )


def test_the_command_prints_what_the_job_does(together, tmp_path, capsys):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": x}) for x in PROMPTS[1:]))
    command = [TEACHER, f"--prompt={PROMPTS[0]}", f"--prompts={file}", "--tokens=8"]
    drawn = ["--temperature=1", "--top_k=50", "--top_p=0.9", "--json"]
    assert main.main([*command, *drawn]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(x) for x in lines] == [dataclasses.asdict(x) for x in together]


def test_later_samples_read_the_programs_of_earlier_ones(monkeypatch):
    settings = []
    monkeypatch.setattr(compiled_programs, "keep", settings.append)
    text_model.load(Location(TEACHER), config=runtime.Runtime())
    assert settings == [runtime.Compilation()]


def test_lines_of_prompts_end_where_a_file_ends_them(tmp_path):
    texts = ["one\u2028line", "form\x0cfeed", "next\x85line"]
    plain, objects = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    plain.write_text("\r\n".join([*texts, "", ""]), encoding="utf-8")
    rows = [json.dumps({"prompt": text}, ensure_ascii=False) for text in texts]
    objects.write_text("\n".join(rows), encoding="utf-8")
    assert prompts.read(str(plain)) == prompts.read(str(objects)) == texts
    objects.write_text("\n\n{}")
    with pytest.raises(UserError, match="line 3: expected"):
        prompts.read(str(objects))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published(tmp_path_factory.mktemp("published"))


def test_a_published_text_begins_and_ends_as_its_files_say(folder):
    author = text_model.load(Location(str(folder)), config=runtime.Runtime())
    named = author.vocabulary.tokenizer.token_to_id
    assert author.begin == (named("<s>"),)
    assert author.ends == (named("<|im_end|>"), named("<|endoftext|>"))


def test_a_text_ends_before_the_first_end(folder):
    author = text_model.load(Location(str(folder)), config=runtime.Runtime())
    (ids,) = prompts.encode(author, ["x"])
    tokens = np.asarray(generate(author.model, ids[None], num_tokens=8))[0]
    assert tokens[2] not in tokens[:2]
    # The same model, whose third token from here is an end.
    settings = {"eos_token_id": int(tokens[2])}
    job = sample(model=str(folder), prompts=["x"], settings=settings)
    (one,) = job.continuations()
    assert one.ended and one.text == author.vocabulary.decode(tokens[:2])


MISTAKES = {
    (): "the following arguments are required: MODEL",
    ("nowhere", "--prompt=x"): "no such file or folder: nowhere",
    (TEACHER,): "no prompt; give --prompt=TEXT or --prompts=FILE",
    (TEACHER, "--prompts=nowhere"): "no such file of prompts: nowhere",
    (TEACHER, "--prompt=x", "--top_p=2"): "top_p must be above 0, at most 1, got 2.0",
    (TEACHER, "--prompt=x", "--tokens=0"): "num_tokens must be at least 1, got 0",
    (TEACHER, "--prompt=x", "--seed=-1"): "seed must be 0 to 2**32 - 1, got -1",
    (TEACHER, "--prompt=x", "--topp=1"): "unrecognized arguments: --topp=1",
    (f"{TEACHER}@7", "--prompt=x"): "has no checkpoint of step 7: 4",
    (f"{TEACHER}@last", "--prompt=x"): "'last' is no step; a number, or best",
    (f"{TEACHER}@best", "--prompt=x"): "no best checkpoint: its graph has no keep_best",
    (f"{FIXTURES / 'llama'}@3", "--prompt=x"): "only a run of ours has steps",
    (str(FIXTURES / "llama"), "--prompt=x"): "no tokenizer.json, without which",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, capsys, tmp_path):
    assert main.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert re.search(re.escape(MISTAKES[arguments]), printed.err)


@pytest.mark.slow  # two models that write; `contrast_test` has the formula
def test_an_assistant_is_taken_away_from_the_model():
    alone = list(sample().continuations())
    # The model itself: a share of its own log-probabilities, at all tokens.
    for scale, same in ((-0.5, True), (-2.0, False)):
        contrast = Contrast(scale=scale, share=1.0)
        texts = list(sample(assistant=TEACHER, contrast=contrast).continuations())
        assert (texts == alone) is same
