"""Graphs saved by commit 4c223cb, before its names changed, are today's graphs."""

import gzip
import importlib
from pathlib import Path

import fiddle as fdl
import pytest

from runner import data
from runner.errors import UserError
from runner.graph import build, describe, new_fields, overrides, read, renames, to_json

ROOT = Path(__file__).parents[2]
SAVED = Path(__file__).parent / "saved_4c223cb"
GRAPHS = sorted(path.name.removesuffix(".txt") for path in SAVED.glob("graphs/*.txt"))
OF_CONFIGS = [
    name for name in GRAPHS if (ROOT / "configs" / f"{name.split('-')[0]}.py").exists()
]
FIDDLERS = {"bias_balanced": "bias_balanced(rate=1e-3)", "sampled": "sampled(12)"}


def saved(name: str) -> fdl.Buildable:
    packed = (SAVED / "graphs" / f"{name}.json.gz").read_bytes()
    return to_json.from_json(gzip.decompress(packed).decode(), name)


def today(name: str) -> fdl.Buildable:
    """Return the config `FILE` or `FILE-FUNCTION` as it is now."""
    file, _, function = name.partition("-")
    path = f"{ROOT}/configs/{file}.py"
    if function == "record":
        return read.read(f"{path}:record")[0]
    cfg, module = read.read(path)
    if not function:
        return cfg
    call = overrides.Fiddle(FIDDLERS.get(function, function))
    return overrides.apply(cfg, [call], module=module)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_saved_graph_and_its_text_are_renamed_alike(name):
    text = (SAVED / "graphs" / f"{name}.txt").read_text()
    renamed = renames.in_text(text)
    assert new_fields.changes(text, describe.text(saved(name))) == []
    assert renames.in_text(renamed) == renamed


@pytest.mark.parametrize("name", OF_CONFIGS)
def test_a_config_of_then_is_the_config_of_today(name):
    old, new = describe.text(saved(name)), describe.text(today(name))
    # Router terms have counted all tokens since, unless their config did so already.
    changes = [
        line
        for term in ("load_balance", "router_kd", "router_z")
        if f"losses.{term}.mask: losses.target_mask" in old.splitlines()
        for line in (
            f"- losses.{term}.mask: losses.target_mask",
            f"+ losses.{term}.mask: losses.token_mask",
        )
    ]
    assert describe.changes(old, new) == changes


def test_a_saved_term_counts_the_tokens_it_did_then():
    text = describe.text(saved("moe_zloss"))
    assert "losses.load_balance.mask: losses.target_mask\n" in text
    again = to_json.from_json(to_json.to_json(today("moe_zloss")), "again")
    assert "losses.load_balance.mask: losses.token_mask\n" in describe.text(again)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_saved_graph_is_built(name):
    if name == "kinds_weights":  # names a table of numbers that is not there
        return
    try:
        build.objects(saved(name))
    except UserError as error:  # reads what is not here
        reason = ("teacher", "train_data", "data", "evaluations", "<root>")
        assert str(error).startswith(reason), error
        assert "no field" not in str(error)


@pytest.mark.parametrize("line", (SAVED / "names.txt").read_text().splitlines())
def test_a_name_of_then_still_exists_or_is_renamed(line):
    """Each line: a name that a graph may hold, in full and as text has it."""
    for name in line.split():
        old, _, last = name.rpartition(".")
        module, symbol = renames.symbol(old, last)
        assert hasattr(importlib.import_module(module), symbol), (module, symbol)


def test_the_fixtures_hold_old_names():
    text = "".join(path.read_text() for path in SAVED.glob("graphs/*.txt"))
    assert "losses.ForwardKl\n" in text and ".over_records: " in text


def test_values_and_references_are_renamed_in_text():
    old = (
        "<root>: runner.Experiment\n"
        "losses: [kd]\n"
        "losses.kd: losses.LossTerm\n"
        "losses.kd.loss: losses.ForwardKl\n"
        "losses.kd.loss.over_records: 'renormalise_both'\n"
        "student: partial(models.Transformer)\n"
        "student.mlp: partial(models.GatedMlp)\n"
        "teacher: -> losses.kd.loss.over_records\n"
    )
    assert renames.in_text(old).splitlines()[3:] == [
        "losses.kd.loss: losses.ForwardKL",
        "losses.kd.loss.sparse: 'renormalize_both'",
        "student: partial(models.Transformer)",
        "student.mlp: partial(models.GatedMLP)",
        "teacher: -> losses.kd.loss.sparse",
    ]


@pytest.mark.parametrize(
    "string",
    ["\n\n", "\\d+\t", "C:\\texts", "it's", 'it\'s "x"', "it's losses.ForwardKl"],
)
def test_a_string_stays_what_it_is(string):
    cfg = fdl.Config(data.TextFiles, files=["a", string], separator=string)
    text = describe.text(cfg)
    assert renames.in_text(text) == text
    assert new_fields.changes(text, text) == []
