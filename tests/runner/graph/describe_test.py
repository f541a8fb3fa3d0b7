"""Graphs as lines."""

import functools
from pathlib import Path

import fiddle as fdl
import jax
import optax

import losses
import models
from runner.graph import describe, overrides, read
from runner.graph.overrides import Set

SAMPLE = str(Path(__file__).parents[1] / "sample.py")


def sample(*steps):
    return overrides.apply(read.read(SAMPLE)[0], steps)


def term(**fields):
    return fdl.Config(losses.LossTerm, **fields)


def test_the_lines_of_a_term():
    cfg = term(name="z", loss=fdl.Config(losses.ZLoss), weight=1e-4)
    assert describe.text(cfg) == (
        "<root>: losses.LossTerm\n"
        "loss: losses.ZLoss\n"
        "mask: losses.target_mask\n"
        "name: 'z'\n"
        "token_weight: None\n"
        "weight: 0.0001\n"
    )


def test_a_swapped_class_shows():
    a = term(name="z", loss=fdl.Config(losses.ZLoss))
    b = term(name="z", loss=fdl.Config(losses.RouterZLoss))
    assert describe.changes(describe.text(a), describe.text(b)) == [
        "- loss: losses.ZLoss",
        "+ loss: losses.RouterZLoss",
        "+ loss.layers: 'mean'",
        "- mask: losses.target_mask",
        "+ mask: losses.token_mask",
    ]


def test_a_default_that_follows_another_field_shows_as_what_it_is():
    owner = fdl.Partial(losses.Projected)
    assert "mask: losses.target_mask\n" in describe.text(term(name="z", loss=owner))
    own = term(name="z", loss=fdl.Config(losses.RouterZLoss), mask=losses.target_mask)
    assert "mask: losses.target_mask\n" in describe.text(own)


def test_partial_and_config_of_one_class_differ():
    a, b = fdl.Config(losses.ZLoss), fdl.Partial(losses.ZLoss)
    assert describe.text(a) == "<root>: losses.ZLoss\n"
    assert describe.text(b) == "<root>: partial(losses.ZLoss)\n"


def test_items_stand_under_their_names_and_their_order_shows():
    a, b = term(name="a"), term(name="b")
    forth = describe.lines(fdl.Config(dict, terms=[a, b]))
    back = describe.lines(fdl.Config(dict, terms=[b, a]))
    assert forth["terms"] == "[a, b]" and back["terms"] == "[b, a]"
    assert "terms.a.weight" in forth and "terms.a.name" not in forth
    del forth["terms"], back["terms"]
    assert forth == back


def test_an_inserted_item_moves_no_other_line():
    items = [term(name=name) for name in "acd"]
    a = describe.text(fdl.Config(dict, terms=[items[0], items[2]]))
    b = describe.text(fdl.Config(dict, terms=items))
    changes = describe.changes(a, b)
    assert changes[:3] == [
        "- terms: [a, d]",
        "+ terms: [a, c, d]",
        "+ terms.c: losses.LossTerm",
    ]
    assert all(line.startswith("+ terms.c.") for line in changes[3:])


def test_items_without_names_are_numbered_in_natural_order():
    values = fdl.Config(dict, x=[fdl.Config(dict, y=i) for i in range(11)])
    found = [path for path in describe.lines(values) if path.endswith("y")]
    assert found == [f"x[{i}].y" for i in range(11)]


def test_defaults_are_written_so_giving_one_changes_nothing():
    a, b = term(name="a"), term(name="a", weight=1.0)
    assert describe.text(a) == describe.text(b)
    assert describe.digest(a) == describe.digest(b)


def test_a_finished_object_and_its_config_are_the_same_lines():
    a = term(name="a", loss=losses.ZLoss())
    b = term(name="a", loss=fdl.Config(losses.ZLoss))
    assert describe.text(a) == describe.text(b)


def test_required_fields_show_and_those_of_a_caller_do_not():
    assert describe.lines(term())["name"] == "(required)"
    assert "rngs" not in describe.lines(fdl.Partial(models.Transformer))


def test_a_node_used_twice_is_written_once():
    shared = fdl.Config(losses.ZLoss)
    once = describe.lines(fdl.Config(dict, a=shared, b=shared))
    assert once["a"] == "losses.ZLoss" and once["b"] == "-> a"
    twice = describe.lines(
        fdl.Config(dict, a=fdl.Config(losses.ZLoss), b=fdl.Config(losses.ZLoss))
    )
    assert once != twice


def test_leaves_are_the_same_in_every_process():
    assert describe.leaf(frozenset("cab")) == "{'a', 'b', 'c'}"
    assert describe.leaf(jax.nn.relu) == "jax.nn.relu"
    assert describe.leaf(optax.adamw) == "optax.adamw"
    assert describe.leaf(lambda: 0).endswith("<lambda>")
    assert " at 0x" not in describe.leaf(object())
    partial = functools.partial(optax.adamw, 3, b1=0.5)
    assert describe.leaf([partial]) == "[partial(optax.adamw, 3, b1=0.5)]"
    assert describe.leaf(("a",)) == "('a',)"
    assert describe.leaf({"b": [1, None]}) == "{'b': [1, None]}"
    assert describe.leaf("two\nlines") == "'two\\nlines'"


def test_changes_hold_what_differs_and_nothing_else():
    a, b = describe.text(sample()), describe.text(sample(Set("num_steps", "11")))
    assert describe.changes(a, b) == ["- num_steps: 10", "+ num_steps: 11"]
    assert describe.changes(a, a) == []


def test_the_fingerprint_follows_every_line():
    digests = {
        describe.digest(sample(*steps))
        for steps in (
            [],
            [Set("num_steps", "11")],
            [Set("losses.ce.weight", "2")],
            [Set("student.mlp.hidden_dim", "64")],
            [Set("optimizer[1].b1", "0.8")],
        )
    }
    assert len(digests) == 5
    assert all(len(digest) == 16 for digest in digests)


def test_objects_of_a_config_file_are_named_by_file():
    assert describe.lines(sample())["<root>"] == "sample.py:Job"
